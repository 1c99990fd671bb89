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

// readTLS returns c with the files that it names replaced by what is in them.
// Errors begin with the field's name and never show a value, which may be a key.
func readTLS(c tlstypes.ClientTLS) (tlstypes.ClientTLS, error) {
	if (c.Cert == "") != (c.Key == "") {
		return c, errors.New(": has one of cert and key, must have both or none")
	}
	for _, field := range []struct {
		name  string
		value *string
	}{{"ca", &c.CA}, {"cert", &c.Cert}, {"key", &c.Key}} {
		if *field.value == "" {
			continue
		}
		content, err := fileOrContent(*field.value)
		if err != nil {
			return c, fmt.Errorf(".%s: %w", field.name, err)
		}
		*field.value = content
	}
	return c, nil
}

// newTLSConfig returns the TLS settings of a client as Traefik's own ClientTLS
// means them, from PEM. It returns nil where nothing is set. Errors begin with
// the field's name.
func newTLSConfig(c tlstypes.ClientTLS) (*tls.Config, error) {
	if c == (tlstypes.ClientTLS{}) {
		return nil, nil
	}
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: c.InsecureSkipVerify, //nolint:gosec // the operator's choice
	}
	if c.CA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(c.CA)) {
			return nil, errors.New(".ca: holds no certificate; must be PEM or the path of a PEM file")
		}
	}
	if c.Cert == "" {
		return config, nil
	}
	pair, err := tls.X509KeyPair([]byte(c.Cert), []byte(c.Key))
	if err != nil {
		return nil, fmt.Errorf(".cert and key: %w", err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

// trustNobody returns TLS settings with which no server is believed.
func trustNobody() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
}

// fileOrContent returns PEM as it is, and else reads the file of that name.
func fileOrContent(value string) (string, error) {
	if strings.Contains(value, "-----BEGIN") {
		return value, nil
	}
	// What is no file may never end, or never begin.
	info, err := os.Stat(value)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxPEMBytes {
		return "", errNoPEM
	}
	content, err := os.ReadFile(value)
	if err != nil || len(content) == 0 {
		return "", errNoPEM
	}
	return string(content), nil
}

// maxPEMBytes is the size of the largest file of certificates that is read. All
// authorities that browsers trust take a fifth of it.
const maxPEMBytes = 1 << 20

var errNoPEM = errors.New("is neither PEM nor the path of a file of at most 1 MiB that can be read")
