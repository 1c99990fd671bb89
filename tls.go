package tollgate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	tlstypes "github.com/traefik/genconf/dynamic/types"
)

// newTLSConfig returns the TLS settings of a client as Traefik's own ClientTLS
// means them: certificates and keys are given as PEM or as the path of a file. It
// returns nil where nothing is set. Errors begin with the field's name.
func newTLSConfig(c tlstypes.ClientTLS) (*tls.Config, error) {
	if c == (tlstypes.ClientTLS{}) {
		return nil, nil
	}
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: c.InsecureSkipVerify, //nolint:gosec // the operator's choice
	}
	if c.CA != "" {
		pem, err := fileOrContent(c.CA)
		if err != nil {
			return nil, fmt.Errorf(".ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New(".ca: holds no certificate; must be PEM or the path of a PEM file")
		}
	}
	if c.Cert == "" && c.Key == "" {
		return config, nil
	}
	if c.Cert == "" || c.Key == "" {
		return nil, errors.New(": has one of cert and key, must have both or none")
	}
	cert, err := fileOrContent(c.Cert)
	if err != nil {
		return nil, fmt.Errorf(".cert: %w", err)
	}
	key, err := fileOrContent(c.Key)
	if err != nil {
		return nil, fmt.Errorf(".key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf(".cert and key: %w", err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

// fileOrContent returns PEM as it is, and else reads the file of that name. An
// error never shows the value, which may be a key.
func fileOrContent(value string) ([]byte, error) {
	if strings.Contains(value, "-----BEGIN") {
		return []byte(value), nil
	}
	content, err := os.ReadFile(value)
	if err != nil {
		return nil, errors.New("is neither PEM nor the path of a file that can be read")
	}
	return content, nil
}
