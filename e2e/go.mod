// This module starts the gateway for real and tests it from outside. Nothing
// of it reaches the plugin. Traefik is built from the module in traefik/, whose
// hundreds of requirements stay out of this one.
module github.com/tollgate-apim/tollgate/e2e

go 1.25.0

require (
	github.com/coder/websocket v1.8.15
	github.com/tollgate-apim/tollgate v0.0.0
	gopkg.in/yaml.v3 v3.0.1
)

require (
	github.com/mitchellh/mapstructure v1.5.1-0.20231216201459-8508981c8b6c
	github.com/traefik/yaegi v0.16.1
)

require (
	github.com/traefik/genconf v0.5.2 // indirect
	github.com/traefik/paerser v0.2.0 // indirect
)

replace github.com/tollgate-apim/tollgate => ../
