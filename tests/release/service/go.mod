module git.example/acme/service

go 1.27
