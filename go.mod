module github.com/tollgate-apim/tollgate

go 1.20

require golang.org/x/crypto v0.31.0

require (
	github.com/traefik/genconf v0.5.2
	github.com/traefik/paerser v0.2.0
	golang.org/x/sys v0.28.0 // indirect
)
