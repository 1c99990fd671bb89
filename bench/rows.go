package main

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"

	"github.com/tollgate-apim/tollgate/bench/load"
	"github.com/tollgate-apim/tollgate/bench/report"
	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// path is what all requests ask for.
const path = "/weather/today"

// A row is one way through the gateway, on an entry point of its own: so every
// request looks the same and costs the same up to the middlewares.
type row struct {
	report.Row
	// middlewares stand on the row's router, in this order.
	middlewares []stack.Middleware
	// through, if set, names the row whose entry point serves this one too.
	through string
	// lent says that requests are refused until the gateway was lent what they take.
	lent bool
	// warmUp is how many requests it takes until every key came once.
	warmUp uint64
	// credentials appends the header lines of the n-th request.
	credentials func(buf []byte, n uint64) []byte
}

// target returns where requests of the row go.
func (r *row) target(addresses map[string]string) load.Target {
	entryPoint := r.through
	if entryPoint == "" {
		entryPoint = r.Name
	}
	return load.Target{
		Address: addresses[entryPoint],
		Status:  r.Status,
		Request: func(buf []byte, n uint64) []byte {
			buf = append(buf, "GET "+path+" HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench\r\nAccept: */*\r\n"...)
			if r.credentials != nil {
				buf = r.credentials(buf, n)
			}
			return append(buf, "\r\n"...)
		},
	}
}

// noopMiddleware is the plugin in testdata/noop.
func noopMiddleware() stack.Middleware {
	return stack.Middleware{Plugin: map[string]any{noopName: map[string]any{}}}
}

// tollgate is the plugin with default settings.
func tollgate(api int, endpoint string) stack.Middleware {
	return stack.Tollgate(stack.Config{API: apiName(api), Sync: stack.Sync{Endpoint: endpoint}})
}

// tollgateShared is the plugin with limits that gateways share.
func tollgateShared(e endpoints) stack.Middleware {
	return stack.Tollgate(stack.Config{API: apiName(0), Limits: "shared", Sync: stack.Sync{Endpoint: e.shared, Token: e.sharedToken}})
}

// bearer sends one key.
func bearer(key string) func([]byte, uint64) []byte {
	line := "Authorization: Bearer " + key + "\r\n"
	return func(buf []byte, _ uint64) []byte { return append(buf, line...) }
}

// numbered sends the first so many keys of a table in turn.
func numbered(keys uint64) func([]byte, uint64) []byte {
	return func(buf []byte, n uint64) []byte {
		buf = append(buf, "Authorization: Bearer "...)
		buf = numberedKey(buf, n%keys)
		return append(buf, "\r\n"...)
	}
}

// unknown sends keys that no table has, each only once.
func unknown(buf []byte, n uint64) []byte {
	const beyond = 1_000_000_000
	return numbered(1<<62)(buf, beyond+n)
}

// native is Traefik's own basicAuth and rateLimit.
func native() []stack.Middleware {
	sum := sha1.Sum([]byte("password"))
	return []stack.Middleware{
		{BasicAuth: &stack.BasicAuth{Users: []string{"user:{SHA}" + base64.StdEncoding.EncodeToString(sum[:])}}},
		{RateLimit: &stack.RateLimit{Average: 1_000_000, Burst: 1_000_000}},
	}
}

func basic(buf []byte, _ uint64) []byte {
	return append(buf, "Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n"...)
}

// keysInUse is how many keys come in turn. Each of them may come a thousand times
// a second, which is more than it does.
const keysInUse = 100

// manyAPIs is how many APIs the gateway with many APIs has.
const manyAPIs = 1000

// endpoints are the URLs of the sync endpoints, one for each table. The shared one
// is a control plane, which shares limits, with its token.
type endpoints struct{ small, apis, shared, sharedToken, big string }

// rows returns what is measured side by side.
func rows(e endpoints) []*row {
	small := tollgate(0, e.small)
	return []*row{
		{Row: report.Row{Name: report.Bare, Title: "no middleware", Status: 200}},
		{Row: report.Row{Name: report.Noop, Title: "a plugin that does nothing", Status: 200},
			middlewares: []stack.Middleware{noopMiddleware()}},
		{Row: report.Row{Name: report.Native, Title: "Traefik's basicAuth {SHA} + rateLimit", Status: 200},
			middlewares: native(), credentials: basic},
		{Row: report.Row{Name: report.Tollgate, Title: "Tollgate: rate limit", Status: 200},
			middlewares: []stack.Middleware{small}, credentials: numbered(keysInUse)},
		{Row: report.Row{Name: report.Full, Title: "Tollgate: rate limit, quota, operation filter", Status: 200},
			middlewares: []stack.Middleware{small}, credentials: bearer(fullKey)},
		{Row: report.Row{Name: report.APIs, Title: fmt.Sprintf("Tollgate: rate limit, one of %s APIs", report.Thousands(manyAPIs)), Status: 200},
			middlewares: []stack.Middleware{tollgate(0, e.apis)}, credentials: numbered(keysInUse)},
		{Row: report.Row{Name: report.Shared, Title: "Tollgate, shared limits: rate limit", Status: 200},
			middlewares: []stack.Middleware{tollgateShared(e)}, credentials: numbered(keysInUse), lent: true},
		{Row: report.Row{Name: report.SharedFull, Title: "Tollgate, shared limits: rate, quota, filter", Status: 200},
			through: report.Shared, credentials: bearer(fullKey), lent: true},
		{Row: report.Row{Name: report.Unknown, Title: "Tollgate refuses: unknown keys", Status: 401},
			through: report.Tollgate, credentials: unknown},
		{Row: report.Row{Name: report.Missing, Title: "Tollgate refuses: no key", Status: 401},
			through: report.Tollgate},
		{Row: report.Row{Name: report.Limited, Title: "Tollgate refuses: rate limit used up", Status: 429},
			through: report.Tollgate, credentials: bearer(limitedKey)},
	}
}

// keysUsed is how many keys of the big table come in the row that uses many.
const keysUsed = 10_000

// bigRows returns what is measured while a gateway has a table with so many
// keys.
func bigRows(e endpoints, keys int) []*row {
	title := "Tollgate: " + report.Thousands(keys) + " keys in the table, "
	config := stack.Config{API: apiName(0), Sync: stack.Sync{Endpoint: e.big, Interval: "100ms", Timeout: "120s"}}
	return []*row{
		{Row: report.Row{Name: report.FewKeys, Title: fmt.Sprintf("Tollgate: %d keys in the table, beside the next two", keysInUse), Status: 200},
			through: report.Tollgate, credentials: numbered(keysInUse)},
		{Row: report.Row{Name: report.ManyKeys, Title: title + fmt.Sprintf("%d in use", keysInUse), Status: 200, Keys: keys},
			middlewares: []stack.Middleware{stack.Tollgate(config)}, credentials: numbered(keysInUse)},
		{Row: report.Row{Name: report.ManyKeysUsed, Title: title + "10,000 in use", Status: 200, Keys: keys},
			through: report.ManyKeys, credentials: numbered(keysUsed), warmUp: keysUsed},
	}
}
