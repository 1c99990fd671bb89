package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"
	"sync"
)

// access says who may have the table, and how connections are encrypted. All of
// it may change while requests are served.
type access struct {
	mu          sync.RWMutex
	tokens      [][sha256.Size]byte // hashes of those that gateways may present; none admits everybody
	authorities *x509.CertPool      // of which gateways' certificates must be; nil admits everybody
	config      *tls.Config         // for connections that begin now
}

// AdmitTokens makes tokens the ones of which gateways must present one; none
// admits everybody. Who is being held with a token that is no longer among them
// is refused when he is released.
func (s *Server) AdmitTokens(tokens []string) {
	sums := make([][sha256.Size]byte, len(tokens))
	for i, token := range tokens {
		sums[i] = sha256.Sum256([]byte(token))
	}
	s.access.mu.Lock()
	defer s.access.mu.Unlock()
	s.access.tokens = sums
}

// AdmitClients makes authorities the ones of which gateways must present a
// certificate; nil admits everybody. It holds for connections that are there
// already, too. The server must be reached through TLSConfig.
func (s *Server) AdmitClients(authorities *x509.CertPool) {
	a := &s.access
	a.mu.Lock()
	defer a.mu.Unlock()
	a.authorities = authorities
	a.configureLocked(a.config.Certificates)
}

// UseCertificate makes certificate the one that new connections are shown.
func (s *Server) UseCertificate(certificate tls.Certificate) {
	s.access.mu.Lock()
	defer s.access.mu.Unlock()
	s.access.configureLocked([]tls.Certificate{certificate})
}

// TLSConfig returns how to listen so that UseCertificate and AdmitClients have
// their effect.
func (s *Server) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			s.access.mu.RLock()
			defer s.access.mu.RUnlock()
			return s.access.config, nil
		},
	}
}

func (a *access) configureLocked(certificates []tls.Certificate) {
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, Certificates: certificates,
	}
	if a.authorities != nil {
		// Without a certificate /healthz can be asked.
		config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, a.authorities
	}
	a.config = config
}

// check tells why a request may not have the table.
func (a *access) check(r *http.Request) error {
	a.mu.RLock()
	tokens, authorities := a.tokens, a.authorities
	a.mu.RUnlock()
	if authorities != nil && !hasCertificate(r.TLS, authorities) {
		return errForbidden
	}
	if len(tokens) > 0 && !hasToken(r, tokens) {
		return errUnauthorized
	}
	return nil
}

// guarded says whether anybody may be refused.
func (a *access) guarded() bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.tokens) > 0 || a.authorities != nil
}

// hasToken compares the presented token, hashed so that neither its length nor
// its text shows in the time taken.
func hasToken(r *http.Request, tokens [][sha256.Size]byte) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	equal := 0
	for i := range tokens {
		equal |= subtle.ConstantTimeCompare(sum[:], tokens[i][:])
	}
	return equal == 1 && strings.EqualFold(scheme, "Bearer")
}

// hasCertificate checks the certificate that a connection began with. The
// handshake has done so too, but that may be long ago: meanwhile the certificate
// may have expired, or its authority have been taken away.
func hasCertificate(connection *tls.ConnectionState, authorities *x509.CertPool) bool {
	if connection == nil || len(connection.PeerCertificates) == 0 {
		return false
	}
	intermediates := x509.NewCertPool()
	for _, c := range connection.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	_, err := connection.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: authorities, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err == nil
}
