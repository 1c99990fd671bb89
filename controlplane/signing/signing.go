// Package signing makes and reads the keys that sign tables, and signs. What a
// signature covers and how it is written stands in docs/sync.md.
package signing

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/tollgate-apim/tollgate/table"
)

// Header is the header field that signatures of a table stand in.
const Header = "Tollgate-Signature"

// MaxKeys is how many keys may sign one table: gateways look at no more
// signatures.
const MaxKeys = 8

// pemType is the type of the PEM block that a private key is kept in.
const pemType = "PRIVATE KEY"

// New returns a fresh private key.
func New() (ed25519.PrivateKey, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("making signing key: %w", err)
	}
	return private, nil
}

// Encode returns a private key as it is kept in a file: PKCS #8 in PEM.
func Encode(private ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("encoding signing key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), nil
}

// Decode returns the private key that a file holds. Its errors tell nothing of
// the content.
func Decode(data []byte) (ed25519.PrivateKey, error) {
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return nil, errors.New("holds no key in PEM, must be a private key as tollgate keygen makes it")
	case block.Type == "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("holds an encrypted key, must be one without a passphrase")
	case block.Type == "PUBLIC KEY":
		return nil, errors.New("holds a public key, must be a private key")
	case block.Type != pemType:
		return nil, errors.New("holds no key in PKCS #8, must be a private key as tollgate keygen makes it")
	case strings.TrimSpace(string(rest)) != "":
		return nil, errors.New("holds more than one key, must be one; name each in a file of its own")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("holds a key that is damaged, must be PKCS #8")
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("holds a key of another kind, must be an ed25519 key")
	}
	return private, nil
}

// PublicKey returns the public key of a private one as sync.publicKey takes it:
// base64 of its 32 bytes.
func PublicKey(private ed25519.PrivateKey) string {
	public, ok := private.Public().(ed25519.PublicKey)
	if !ok {
		panic("the public key of an ed25519 key is none")
	}
	return base64.StdEncoding.EncodeToString(public)
}

// Sign returns the value of Header for a body of table.Path, before compression.
// It is empty without keys.
func Sign(keys []ed25519.PrivateKey, body []byte) string {
	if len(keys) == 0 {
		return ""
	}
	message := table.SignedMessage(body)
	signatures := make([]string, len(keys))
	for i, key := range keys {
		signatures[i] = "ed25519=" + base64.StdEncoding.EncodeToString(ed25519.Sign(key, message))
	}
	return strings.Join(signatures, ", ")
}
