package tollgate

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	tlstypes "github.com/traefik/genconf/dynamic/types"

	"github.com/tollgate-apim/tollgate/feed"
)

// maxHeaderBytes bounds the header of an endpoint's answer.
const maxHeaderBytes = 64 << 10

// newClients returns what tells the client to fetch tables with: always the same
// one, until a file that the TLS settings name has changed. While such a file
// cannot be used, what was in it before goes on; when that lasts for more than one
// call, as it would not while files are replaced one after another, it is
// reported.
func newClients(s syncSettings, report func(line string, failed bool)) func() *http.Client {
	var (
		client *http.Client
		used   tlstypes.ClientTLS
		told   string
		before string
	)
	return func() *http.Client {
		read, err := readTLS(s.tls)
		if err == nil && client != nil && read == used {
			told = ""
			before = ""
			return client
		}
		var config *tls.Config
		if err == nil {
			config, err = newTLSConfig(read)
		}
		if err == nil {
			told = ""
			before = ""
			client = newClient(s.timeout, config)
			used = read
			return client
		}
		if wrong := err.Error(); wrong != told {
			if wrong == before {
				report("sync.tls"+wrong+"; what was there before is still used", true)
				told = wrong
			}
			before = wrong
		}
		if client == nil {
			// The files went after the configuration was checked. Nobody is
			// trusted until they are back.
			return newClient(s.timeout, trustNobody())
		}
		return client
	}
}

// newClient returns a client that fetches tables. The timeout is for getting a
// connection.
func newClient(timeout time.Duration, config *tls.Config) *http.Client {
	dialer := &net.Dialer{Timeout: timeout}
	// Yaegi cannot convert a compiled method value, hence the function.
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}
	// As many as there may be requests at a time: the parts of a table, and a
	// report.
	const connections = feed.AtOnce + 1
	return &http.Client{Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dial,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: timeout,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        connections,
		MaxIdleConnsPerHost: connections,
		IdleConnTimeout:     90 * time.Second,

		MaxResponseHeaderBytes: maxHeaderBytes,
	}}
}
