module countersign/demo

go 1.27.0
