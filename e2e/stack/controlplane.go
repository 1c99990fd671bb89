package stack

import (
	"context"
	"crypto/rand"
	"crypto/sha3"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
	"time"
)

// tollgateStart is how long the control plane may take to start.
const tollgateStart = 30 * time.Second

// ControlPlaneOptions says how to start a control plane.
type ControlPlaneOptions struct {
	// Binary is the program.
	Binary string
	// Dir is the working directory, for its files.
	Dir string
	// Manifests is the folder with the manifests.
	Manifests string
	// Revision says what numbers its tables; empty is the program's default.
	Revision string
	// Address is where it listens; empty means a free port.
	Address string
	// Token is what gateways must present; empty means a fresh one.
	Token string
	// Open lets everybody have the table, without a token.
	Open bool
	// TLSCert and TLSKey are PEM files; empty means plain HTTP.
	TLSCert, TLSKey string
	// Args are more arguments for the program.
	Args []string
}

// ControlPlane is a running `tollgate serve`.
type ControlPlane struct {
	*Process
	// URL is the base URL of its sync endpoint.
	URL string
	// Token is what its gateways must present.
	Token string
	// Manifests is the folder with the manifests.
	Manifests string
}

var listening = regexp.MustCompile(`\baddress"?[=:]"?(127\.0\.0\.1:\d+)`)

// StartControlPlane starts a control plane and returns once it listens.
func StartControlPlane(ctx context.Context, o ControlPlaneOptions) (*ControlPlane, error) {
	c := &ControlPlane{Token: o.Token, Manifests: o.Manifests}
	if c.Token == "" {
		c.Token = rand.Text()
	}
	tokenFile := filepath.Join(o.Dir, "sync-token")
	if err := os.WriteFile(tokenFile, []byte(c.Token+"\n"), 0o600); err != nil {
		return nil, err
	}
	address := o.Address
	if address == "" {
		address = "127.0.0.1:0"
	}
	args := []string{"serve", "--manifests", o.Manifests, "--listen", address}
	if o.Open {
		c.Token = ""
	} else {
		args = append(args, "--token-file", tokenFile)
	}
	if o.Revision != "" {
		args = append(args, "--revision", o.Revision)
	}
	scheme := "http://"
	if o.TLSCert != "" {
		args = append(args, "--tls-cert", o.TLSCert, "--tls-key", o.TLSKey)
		scheme = "https://"
	}
	args = append(args, o.Args...)
	var err error
	c.Process, err = Start("tollgate", o.Dir, o.Binary, args...)
	if err != nil {
		return nil, err
	}
	line, err := c.awaitLine(ctx, tollgateStart, "listening", "address")
	if err != nil {
		_ = c.Stop()
		return nil, err
	}
	found := listening.FindStringSubmatch(line)
	if found == nil {
		_ = c.Stop()
		return nil, fmt.Errorf("found no address in %q", line)
	}
	c.URL = scheme + found[1]
	return c, nil
}

// Table is what a table says of its content, loosely: tests look at parts.
type Table struct {
	// ETag is the tag that it was served with.
	ETag string `json:"-"`

	Revision      int64                                         `json:"revision"`
	APIs          map[string]json.RawMessage                    `json:"apis"`
	Plans         map[string]json.RawMessage                    `json:"plans"`
	Subscriptions map[string]json.RawMessage                    `json:"subscriptions"`
	Applications  map[string]struct{ Grants map[string]string } `json:"applications"`
	Keys          map[string]json.RawMessage                    `json:"keys"`
}

// Table returns the table that the control plane serves now.
func (c *ControlPlane) Table(ctx context.Context) (Table, error) {
	var t Table
	body, header, err := get(ctx, c.URL+"/v1/table", http.Header{"Authorization": {"Bearer " + c.Token}})
	if err != nil {
		return t, err
	}
	t.ETag = header.Get("ETag")
	return t, json.Unmarshal(body, &t)
}

// Apply writes a file of manifests at a stroke. The control plane takes it a
// moment later.
//
// The text is a template with functions: {{digest "key"}} is the digest of
// an API key, {{base64 (digest "key")}} its form under a Secret's data.
func (c *ControlPlane) Apply(name, manifests string) error {
	text, err := RenderManifests(manifests)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(c.Manifests, name), []byte(text))
}

// Remove removes a file of manifests.
func (c *ControlPlane) Remove(name string) error {
	return os.Remove(filepath.Join(c.Manifests, name))
}

// RenderManifests fills in the digests; see Apply.
func RenderManifests(text string) (string, error) {
	functions := template.FuncMap{
		"digest": Digest,
		"upper":  strings.ToUpper,
		"base64": func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	}
	parsed, err := template.New("manifests").Funcs(functions).Parse(text)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	err = parsed.Execute(&out, nil)
	return out.String(), err
}

// Digest returns what is stored of an API key: the hex of 64 bytes of
// SHAKE-256, here by the standard library.
func Digest(key string) string {
	return hex.EncodeToString(sha3.SumSHAKE256([]byte(key), 64))
}
