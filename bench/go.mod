// This module measures the gateway side by side with what else there is. Nothing
// of it reaches the plugin.
module github.com/tollgate-apim/tollgate/bench

go 1.25.0

require (
	github.com/tollgate-apim/tollgate v0.0.0
	github.com/tollgate-apim/tollgate/e2e v0.0.0
	gopkg.in/yaml.v3 v3.0.1
)

require github.com/coder/websocket v1.8.15 // indirect

replace (
	github.com/tollgate-apim/tollgate => ../
	github.com/tollgate-apim/tollgate/e2e => ../e2e
)
