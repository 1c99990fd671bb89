package feed

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/tollgate-apim/tollgate/table"
)

// signatureHeader holds who signed a table: ed25519=<base64 of 64 bytes>, several
// of them separated by commas while keys are rotated.
const signatureHeader = "Tollgate-Signature"

// maxSignatures is how many signatures an answer may have: each that is tried
// hashes the whole table.
const maxSignatures = 8

// Why a table is refused whatever it says.
var (
	errUnsigned = errors.New("the table is not signed, expected a " + signatureHeader + " by a key of sync.publicKey")
	errUnknown  = errors.New("the table is signed by none of the keys of sync.publicKey, or was changed on the way")
	errSigned   = errors.New("the table is signed, but no key is set in sync.publicKey to check that with")
)

// proof says who signed a table.
type proof struct {
	// signatures is what the endpoint sent.
	signatures string
	// by are those of the expected keys with which one of them is right.
	by       []string
	expected string
}

// byAny says whether any of the keys has signed.
func (p proof) byAny(keys []ed25519.PublicKey) bool {
	for _, signer := range p.by {
		for _, key := range keys {
			if signer == string(key) {
				return true
			}
		}
	}
	return false
}

// verify checks the signatures of a body, as they stood in the header. There must
// be a right one by one of the keys, and none at all if there are no keys.
func verify(keys []ed25519.PublicKey, header []string, body []byte) (proof, error) {
	signatures := strings.TrimSpace(strings.Join(header, ","))
	if len(keys) == 0 {
		if signatures != "" {
			return proof{}, errSigned
		}
		return proof{}, nil
	}
	if signatures == "" {
		return proof{}, errUnsigned
	}
	list, err := parseSignatures(signatures)
	if err != nil {
		return proof{}, err
	}
	p := proof{signatures: signatures, expected: joined(keys)}
	message := table.SignedMessage(body)
	for _, key := range keys {
		for _, signature := range list {
			if ed25519.Verify(key, message, signature) {
				p.by = append(p.by, string(key))
				break
			}
		}
	}
	if len(p.by) == 0 {
		return proof{}, errUnknown
	}
	return p, nil
}

// parseSignatures returns the ed25519 signatures of a header. Those of algorithms
// that are not known yet are left out.
func parseSignatures(header string) ([][]byte, error) {
	items := strings.Split(header, ",")
	if len(items) > maxSignatures {
		return nil, fmt.Errorf("%s has %d signatures, expected %d at most", signatureHeader, len(items), maxSignatures)
	}
	var list [][]byte
	for _, item := range items {
		algorithm, encoded, _ := strings.Cut(strings.TrimSpace(item), "=")
		if algorithm != "ed25519" {
			continue
		}
		signature, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err != nil || len(signature) != ed25519.SignatureSize {
			return nil, fmt.Errorf("%s has %q, expected ed25519=<base64 of %d bytes>", signatureHeader, item, ed25519.SignatureSize)
		}
		list = append(list, signature)
	}
	return list, nil
}

// joined makes keys comparable. They are all of one length.
func joined(keys []ed25519.PublicKey) string {
	text := ""
	for _, key := range keys {
		text += string(key)
	}
	return text
}
