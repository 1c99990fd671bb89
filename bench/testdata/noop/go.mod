module github.com/tollgate-apim/noop

go 1.20
