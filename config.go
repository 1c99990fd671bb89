package tollgate

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	tlstypes "github.com/traefik/genconf/dynamic/types"
	"github.com/traefik/paerser/types"

	"github.com/tollgate-apim/tollgate/table"
)

// Config is the configuration of the middleware as Traefik decodes it.
// docs/configuration.md describes every field. Durations are strings such as
// "10s"; a number without a unit means seconds.
type Config struct {
	// API is the namespace/name of the API behind the router. It is required.
	API             string          `json:"api"`
	Sync            Sync            `json:"sync"`
	KeySource       KeySource       `json:"keySource"`
	HideCredentials bool            `json:"hideCredentials"`
	IdentityHeaders IdentityHeaders `json:"identityHeaders"`
	// ErrorBody is "problem" for RFC 9457 problem details, or "empty".
	ErrorBody string `json:"errorBody"`
	DryRun    bool   `json:"dryRun"`
	// Limits says who shares counters: "local" for the routers of one Traefik,
	// "shared" for all gateways of a control plane.
	Limits string `json:"limits"`
	// OnLimitsLost says what to do with requests while limits cannot be shared and
	// what was lent has run out: "refuse", "fair-share" or "admit".
	OnLimitsLost string `json:"onLimitsLost"`
}

// Sync says where the table comes from.
type Sync struct {
	// Endpoint lists the base URLs of the sync endpoints, in the order in which
	// they are tried. There must be one at least. As in all lists, Traefik takes
	// a text for several values at its commas.
	Endpoint []string `json:"endpoint"`
	// Token is sent to the endpoints as Bearer token.
	Token    string `json:"token"`
	Interval string `json:"interval"`
	Timeout  string `json:"timeout"`
	// Wait is for how long an endpoint may hold its answer while the table has
	// not changed; "0s" makes it answer at once.
	Wait string `json:"wait"`
	// MaxStaleness is the age at which a table that the endpoint no longer
	// confirms is no longer trusted; "0s" means never.
	MaxStaleness string `json:"maxStaleness"`
	// MaxBytes is the largest table that is accepted, in bytes of JSON.
	MaxBytes int64 `json:"maxBytes"`
	// CacheFile keeps the last good table across restarts; empty keeps none.
	CacheFile string `json:"cacheFile"`
	// PublicKey lists the ed25519 keys, in base64, of which one must have
	// signed the table. With none, the table must not be signed.
	PublicKey []string           `json:"publicKey"`
	TLS       tlstypes.ClientTLS `json:"tls"`
}

// KeySource says where in a request the key is. When all fields are empty it is
// the Authorization header with scheme Bearer, and else the query parameter
// api_key. When any is set, an empty one disables that place.
type KeySource struct {
	Header           string `json:"header"`
	HeaderAuthScheme string `json:"headerAuthScheme"`
	Query            string `json:"query"`
	Cookie           string `json:"cookie"`
}

// IdentityHeaders names the request headers that tell the upstream who is
// calling. An empty name leaves that header out.
type IdentityHeaders struct {
	AppID        string `json:"appId"`
	Subscription string `json:"subscription"`
	Plan         string `json:"plan"`
	KeyTitle     string `json:"keyTitle"`
}

// CreateConfig returns the default configuration.
func CreateConfig() *Config {
	return &Config{
		Sync: Sync{
			Interval:     "10s",
			Timeout:      "5s",
			Wait:         "30s",
			MaxStaleness: "0s",
			MaxBytes:     table.DefaultMaxBytes,
		},
		HideCredentials: true,
		IdentityHeaders: IdentityHeaders{
			AppID:        "X-App-Id",
			Subscription: "X-Subscription",
			Plan:         "X-Api-Plan",
			KeyTitle:     "X-Api-Key-Title",
		},
		ErrorBody:    "problem",
		Limits:       "local",
		OnLimitsLost: lostRefuse,
	}
}

// minInterval keeps a slip of the pen from flooding the sync endpoints.
const minInterval = 100 * time.Millisecond

// What sync.wait may be beside 0s: endpoints hold no answer for longer, and
// shorter waits are no better than polling.
const (
	minWait = 2 * time.Second
	maxWait = time.Minute
)

// maxPublicKeys bounds what it costs to check who signed a table: with each of
// them, the whole table may be hashed.
const maxPublicKeys = 8

// settings is a Config that was checked and made ready.
type settings struct {
	api             string
	sync            syncSettings
	maxStaleness    time.Duration
	keySource       *keySource
	hideCredentials bool
	identity        identityNames
	problemBody     bool
	dryRun          bool
	shared          bool
	onLimitsLost    string
}

// syncSettings is what a source is made of. Middlewares with equal ones share it.
type syncSettings struct {
	endpoints  []string
	token      string
	interval   time.Duration
	timeout    time.Duration
	wait       time.Duration
	maxBytes   int64
	publicKeys []string // 32 bytes each
	cacheFile  string
	tls        tlstypes.ClientTLS
}

// newSettings checks a configuration. Its error tells all wrong fields at once.
func newSettings(c *Config) (*settings, error) {
	p := &problems{}
	s := &settings{
		api: c.API,
		sync: syncSettings{
			endpoints:  p.endpoints("sync.endpoint", c.Sync.Endpoint),
			token:      c.Sync.Token,
			interval:   p.duration("sync.interval", c.Sync.Interval, minInterval),
			timeout:    p.duration("sync.timeout", c.Sync.Timeout, minInterval),
			wait:       p.wait("sync.wait", c.Sync.Wait),
			maxBytes:   c.Sync.MaxBytes,
			publicKeys: p.publicKeys("sync.publicKey", c.Sync.PublicKey),
			cacheFile:  p.file("sync.cacheFile", c.Sync.CacheFile),
			tls:        p.tls(c.Sync.TLS),
		},
		maxStaleness:    p.duration("sync.maxStaleness", c.Sync.MaxStaleness, 0),
		keySource:       p.keySource(c.KeySource),
		hideCredentials: c.HideCredentials,
		identity:        p.identity(c.IdentityHeaders),
		problemBody:     c.ErrorBody == "problem",
		onLimitsLost:    c.OnLimitsLost,
	}

	if !namespacedName.MatchString(c.API) {
		p.add("api", c.API, "must be the namespace/name of an API, such as apps/weather-api")
	}
	if strings.ContainsAny(c.Sync.Token, controls) || strings.TrimSpace(c.Sync.Token) != c.Sync.Token {
		p.addSecret("sync.token", "must be text on one line, without space around it")
	}
	// A table is confirmed as of the beginning of an exchange, once in an
	// interval and a tenth or in a wait, at the latest, plus the time of the
	// exchange. One lost poll must not refuse requests either.
	if least := 2 * (s.sync.interval + s.sync.wait + s.sync.timeout); s.maxStaleness > 0 && s.maxStaleness < least {
		p.add("sync.maxStaleness", c.Sync.MaxStaleness,
			"must be 0s or at least 2 × (sync.interval + sync.wait + sync.timeout), which is "+least.String())
	}
	if c.Sync.MaxBytes < 1 {
		p.add("sync.maxBytes", fmt.Sprint(c.Sync.MaxBytes), "must be 1 or more")
	}
	if c.ErrorBody != "problem" && c.ErrorBody != "empty" {
		p.add("errorBody", c.ErrorBody, `must be "problem" or "empty"`)
	}
	switch c.Limits {
	case "local":
	case "shared":
		s.shared = true
	default:
		p.add("limits", c.Limits, `must be "local" or "shared"`)
	}
	switch c.OnLimitsLost {
	case lostRefuse, lostFairShare, lostAdmit:
	default:
		p.add("onLimitsLost", c.OnLimitsLost, `must be "refuse", "fair-share" or "admit"`)
	}
	if c.DryRun {
		s.dryRun, s.hideCredentials, s.identity.refusal = true, false, dryRunHeader
	}
	for _, name := range s.identity.list() {
		if name == s.keySource.header {
			p.add("identityHeaders", name, "must differ from keySource.header")
		}
	}
	return s, p.error()
}

// problems collects what is wrong with a configuration.
type problems struct {
	list []string
}

// add notes a wrong value: which field, what it is, what is allowed.
func (p *problems) add(field, value, allowed string) {
	p.list = append(p.list, fmt.Sprintf("%s: %q %s", field, value, allowed))
}

// addSecret notes a wrong value that must not be shown.
func (p *problems) addSecret(field, allowed string) {
	p.list = append(p.list, field+": "+allowed)
}

func (p *problems) error() error {
	if len(p.list) == 0 {
		return nil
	}
	return errors.New("invalid configuration: " + strings.Join(p.list, "; "))
}

var (
	namespacedName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)
	// token is RFC 9110's: what names of headers, schemes and cookies are made of.
	token = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
)

// maxDuration is ten years.
const maxDuration = 10 * 365 * 24 * time.Hour

func (p *problems) duration(field, value string, min time.Duration) time.Duration {
	allowed := fmt.Sprintf("must be a duration such as 10s, of %s or more", min)
	var d types.Duration
	if err := d.Set(value); err != nil {
		p.add(field, value, allowed)
		return 0
	}
	// Seconds without a unit may overflow, which Set does not notice.
	seconds, _ := strconv.ParseInt(value, 10, 64)
	if time.Duration(d) < min || time.Duration(d) > maxDuration || seconds > int64(maxDuration/time.Second) {
		p.add(field, value, allowed)
		return 0
	}
	return time.Duration(d)
}

// tls returns the TLS settings once they can be used. They are read again later.
func (p *problems) tls(c tlstypes.ClientTLS) tlstypes.ClientTLS {
	read, err := readTLS(c)
	if err == nil {
		_, err = newTLSConfig(read)
	}
	if err != nil {
		p.list = append(p.list, "sync.tls"+err.Error())
	}
	return c
}

// wait returns for how long an endpoint may hold its answer.
func (p *problems) wait(field, value string) time.Duration {
	d := p.duration(field, value, 0)
	if d != 0 && (d < minWait || d > maxWait) {
		p.add(field, value, fmt.Sprintf("must be 0s, or from %s to %s", minWait, maxWait))
		return 0
	}
	return d
}

// element returns the name of the i-th of n values of a field.
func element(field string, i, n int) string {
	if n == 1 {
		return field
	}
	return fmt.Sprintf("%s[%d]", field, i)
}

// publicKeys returns the bytes of each key. A value that is no public key may be a
// private one, so none is shown.
func (p *problems) publicKeys(field string, values []string) []string {
	const allowed = "must be the base64 of the 32 bytes of an ed25519 public key, as tollgate keygen prints it"
	if len(values) > maxPublicKeys {
		p.addSecret(field, fmt.Sprintf("has %d keys, must have at most %d", len(values), maxPublicKeys))
		return nil
	}
	var keys []string
	for i, value := range values {
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
		if err != nil {
			p.addSecret(element(field, i, len(values)), "is no base64, "+allowed)
		} else if len(key) != ed25519.PublicKeySize {
			p.addSecret(element(field, i, len(values)), fmt.Sprintf("has %d bytes, %s", len(key), allowed))
		}
		keys = append(keys, string(key))
	}
	return keys
}

// file returns the path of a file, or nothing for none. Where a relative one led
// would depend on where Traefik was started.
func (p *problems) file(field, value string) string {
	if value == "" {
		return ""
	}
	path := filepath.Clean(value)
	if !filepath.IsAbs(value) || path != value || strings.ContainsAny(value, controls) || filepath.Dir(path) == path {
		p.add(field, value, "must be empty, or the absolute path of a file, such as /var/lib/traefik/tollgate.cache")
	}
	return path
}

// endpoints returns the base URLs, each without a slash at its end.
func (p *problems) endpoints(field string, values []string) []string {
	if len(values) == 0 {
		values = []string{""}
	}
	var list []string
	for i, value := range values {
		name := element(field, i, len(values))
		endpoint := p.endpoint(name, strings.TrimSpace(value))
		for _, other := range list {
			if endpoint != "" && endpoint == other {
				p.add(name, endpoint, "must be listed once")
			}
		}
		list = append(list, endpoint)
	}
	return list
}

// endpoint returns the base URL without a slash at its end.
func (p *problems) endpoint(field, value string) string {
	const allowed = "must be an absolute http or https URL, such as http://127.0.0.1:7070"
	u, err := url.Parse(value)
	if err != nil {
		// The value may hold a password, and so may the error.
		p.addSecret(field, allowed)
		return ""
	}
	if u.User != nil {
		p.addSecret(field, "must have no user name or password; use sync.token")
		return ""
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		// Either may be a token.
		p.addSecret(field, "must have neither query nor fragment")
		return ""
	}
	_, err = strconv.ParseUint("0"+u.Port(), 10, 16)
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || err != nil {
		if strings.Contains(value, "@") {
			// A password for us where the parser saw none.
			p.addSecret(field, allowed)
		} else {
			p.add(field, value, allowed)
		}
		return ""
	}
	return strings.TrimRight(value, "/")
}

func (p *problems) keySource(c KeySource) *keySource {
	before := len(p.list)
	if c == (KeySource{}) {
		c = KeySource{Header: "Authorization", HeaderAuthScheme: "Bearer", Query: "api_key"}
	}
	if c.Header == "" && c.HeaderAuthScheme != "" {
		p.add("keySource.headerAuthScheme", c.HeaderAuthScheme, "needs keySource.header")
	} else if c.Header == "" && c.Query == "" && c.Cookie == "" {
		p.addSecret("keySource", "must name at least one of header, query and cookie")
	}
	p.token("keySource.header", c.Header)
	p.token("keySource.headerAuthScheme", c.HeaderAuthScheme)
	p.token("keySource.cookie", c.Cookie)
	p.keyHeader(c.Header)
	p.query("keySource.query", c.Query)
	if len(p.list) > before {
		return &keySource{header: http.CanonicalHeaderKey(c.Header)}
	}
	return newKeySource(c.Header, c.HeaderAuthScheme, c.Query, c.Cookie)
}

// keyHeader checks that the key may stand in a header.
func (p *problems) keyHeader(name string) {
	if name := http.CanonicalHeaderKey(name); forwarding[name] {
		p.add("keySource.header", name, "must not be a header that HTTP or a proxy acts on")
	}
}

func (p *problems) identity(c IdentityHeaders) identityNames {
	seen := map[string]string{}
	for _, h := range []struct{ field, name string }{
		{"identityHeaders.appId", c.AppID},
		{"identityHeaders.subscription", c.Subscription},
		{"identityHeaders.plan", c.Plan},
		{"identityHeaders.keyTitle", c.KeyTitle},
	} {
		if h.name == "" {
			continue
		}
		p.token(h.field, h.name)
		name := http.CanonicalHeaderKey(h.name)
		if seen[name] != "" {
			p.add(h.field, h.name, "must differ from "+seen[name])
		}
		if forwarding[name] {
			p.add(h.field, h.name, "must not be a header that HTTP or a proxy acts on")
		}
		if name == dryRunHeader {
			p.add(h.field, h.name, "must not be the header of dry runs")
		}
		seen[name] = h.field
	}
	return identityNames{
		appID:        http.CanonicalHeaderKey(c.AppID),
		subscription: http.CanonicalHeaderKey(c.Subscription),
		plan:         http.CanonicalHeaderKey(c.Plan),
		keyTitle:     http.CanonicalHeaderKey(c.KeyTitle),
	}
}

// forwarding lists the headers that would break the request, or would not reach
// the upstream, if they told an identity.
var forwarding = map[string]bool{
	"Connection": true, "Content-Encoding": true, "Content-Length": true,
	"Cookie": true, "Expect": true, "Forwarded": true, "Host": true,
	"Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true,
	"Proxy-Connection": true, "Sec-Websocket-Key": true, "Te": true,
	"Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"X-Forwarded-For": true, "X-Forwarded-Host": true, "X-Forwarded-Port": true,
	"X-Forwarded-Proto": true, "X-Real-Ip": true,
}

// query checks the name of a parameter. One that is encoded, or holds what ends a
// name, would never be found.
func (p *problems) query(field, value string) {
	if strings.ContainsAny(value, controls+" &;=?#%+") || !utf8.ValidString(value) {
		p.add(field, value, "must be a parameter's name as it is when decoded, without space and any of &;=?#%+")
	}
}

func (p *problems) token(field, value string) {
	if value != "" && !token.MatchString(value) {
		p.add(field, value, "must be letters, digits and any of !#$%&'*+-.^_`|~")
	}
}
