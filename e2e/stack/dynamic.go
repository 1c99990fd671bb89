package stack

import "gopkg.in/yaml.v3"

// Dynamic is a dynamic configuration, as a file of Traefik's file provider.
type Dynamic struct {
	HTTP HTTP `yaml:"http"`
}

// HTTP is the part of a dynamic configuration that we need.
type HTTP struct {
	Routers     map[string]Router     `yaml:"routers,omitempty"`
	Services    map[string]Service    `yaml:"services,omitempty"`
	Middlewares map[string]Middleware `yaml:"middlewares,omitempty"`
}

// Router sends what its rule matches through middlewares to a service.
type Router struct {
	EntryPoints []string `yaml:"entryPoints,omitempty"`
	Rule        string   `yaml:"rule"`
	Middlewares []string `yaml:"middlewares,omitempty"`
	Service     string   `yaml:"service"`
}

// Service is an upstream.
type Service struct {
	LoadBalancer LoadBalancer `yaml:"loadBalancer"`
}

// LoadBalancer lists the servers of an upstream.
type LoadBalancer struct {
	Servers []Server `yaml:"servers"`
}

// Server is one server of an upstream.
type Server struct {
	URL string `yaml:"url"`
}

// Middleware is one of Traefik's middlewares; only one field may be set.
type Middleware struct {
	Plugin      map[string]any `yaml:"plugin,omitempty"`
	StripPrefix *StripPrefix   `yaml:"stripPrefix,omitempty"`
	BasicAuth   *BasicAuth     `yaml:"basicAuth,omitempty"`
	RateLimit   *RateLimit     `yaml:"rateLimit,omitempty"`
}

// BasicAuth asks for a user of an htpasswd file's lines.
type BasicAuth struct {
	Users []string `yaml:"users"`
}

// RateLimit admits so many requests a second from each address.
type RateLimit struct {
	Average int64 `yaml:"average"`
	Burst   int64 `yaml:"burst"`
}

// StripPrefix takes a prefix off the path.
type StripPrefix struct {
	Prefixes []string `yaml:"prefixes"`
}

// Config is the plugin's configuration, as users write it. What is not set
// keeps the plugin's default.
type Config struct {
	API             string            `yaml:"api,omitempty"`
	Sync            Sync              `yaml:"sync,omitempty"`
	KeySource       *KeySource        `yaml:"keySource,omitempty"`
	HideCredentials *bool             `yaml:"hideCredentials,omitempty"`
	IdentityHeaders map[string]string `yaml:"identityHeaders,omitempty"`
	ErrorBody       string            `yaml:"errorBody,omitempty"`
	DryRun          bool              `yaml:"dryRun,omitempty"`
	Limits          string            `yaml:"limits,omitempty"`
}

// Sync says where the plugin gets its table. What is a list, Endpoint and
// PublicKey, is written as one text with commas.
type Sync struct {
	Endpoint     string `yaml:"endpoint,omitempty"`
	Token        string `yaml:"token,omitempty"`
	Interval     string `yaml:"interval,omitempty"`
	Timeout      string `yaml:"timeout,omitempty"`
	Wait         string `yaml:"wait,omitempty"`
	MaxStaleness string `yaml:"maxStaleness,omitempty"`
	MaxBytes     int64  `yaml:"maxBytes,omitempty"`
	CacheFile    string `yaml:"cacheFile,omitempty"`
	PublicKey    string `yaml:"publicKey,omitempty"`
	TLS          *TLS   `yaml:"tls,omitempty"`
}

// TLS says whom the plugin trusts when it syncs.
type TLS struct {
	CA                 string `yaml:"ca,omitempty"`
	Cert               string `yaml:"cert,omitempty"`
	Key                string `yaml:"key,omitempty"`
	InsecureSkipVerify bool   `yaml:"insecureSkipVerify,omitempty"`
}

// KeySource says where a request has its key. An empty field disables a place.
type KeySource struct {
	Header           string `yaml:"header"`
	HeaderAuthScheme string `yaml:"headerAuthScheme"`
	Query            string `yaml:"query"`
	Cookie           string `yaml:"cookie"`
}

// PluginName is what the plugin is called in Traefik's configuration.
const PluginName = "tollgate"

// Tollgate returns the plugin as a middleware.
func Tollgate(c Config) Middleware {
	return Middleware{Plugin: map[string]any{PluginName: c}}
}

// UpstreamService returns a service with one server.
func UpstreamService(url string) Service {
	return Service{LoadBalancer: LoadBalancer{Servers: []Server{{URL: url}}}}
}

func (d Dynamic) encode() ([]byte, error) { return yaml.Marshal(d) }
