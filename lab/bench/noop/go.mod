module countersign/noop

go 1.27.0
