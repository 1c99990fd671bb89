package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/tollgate-apim/tollgate/bench/proc"
	"github.com/tollgate-apim/tollgate/e2e/stack"
)

const (
	keysOfApplication  = 10
	applicationsOfFile = 100
	keysOfFile         = keysOfApplication * applicationsOfFile
)

// plane is a control plane with some keys.
type plane struct {
	*stack.ControlPlane
	keys  int
	trust *x509.CertPool // nil without TLS
}

// startPlane starts a control plane with so many keys, and returns when it
// serves them.
func (b *bench) startPlane(ctx context.Context, keys int, secure bool) (*plane, error) {
	dir, err := os.MkdirTemp(b.dir, "plane-")
	if err != nil {
		return nil, err
	}
	p := &plane{keys: keys}
	manifests := filepath.Join(dir, "manifests")
	if err := os.Mkdir(manifests, 0o750); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(manifests, "api.yaml"), []byte(common), 0o600); err != nil {
		return nil, err
	}
	for file := range (keys + keysOfFile - 1) / keysOfFile {
		if err := os.WriteFile(manifestPath(manifests, file), manifestOf(file, keys, -1), 0o600); err != nil {
			return nil, err
		}
	}
	o := stack.ControlPlaneOptions{Binary: b.binary, Dir: dir, Manifests: manifests}
	if secure {
		if o.TLSCert, o.TLSKey, p.trust, err = certificate(dir); err != nil {
			return nil, err
		}
	}
	if p.ControlPlane, err = stack.StartControlPlane(ctx, o); err != nil {
		return nil, err
	}
	err = stack.Until(ctx, "the control plane to have a table", 30*time.Minute, func() error {
		_, err := p.waiting(ctx)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// common are the manifests beside the applications.
const common = `apiVersion: hub.traefik.io/v1alpha1
kind: API
metadata: {name: api, namespace: bench}
---
apiVersion: hub.traefik.io/v1alpha1
kind: APIPlan
metadata: {name: plan, namespace: bench}
spec: {title: Bench, rateLimit: {limit: 100, period: 1s}, quota: {limit: 100000, period: 24h}}
---
apiVersion: hub.traefik.io/v1alpha1
kind: ManagedSubscription
metadata: {name: sub, namespace: bench}
spec: {apiPlan: {name: plan}, apis: [{name: api}], managedApplicationSelector: {}}
`

func manifestPath(dir string, file int) string {
	return filepath.Join(dir, fmt.Sprintf("apps-%05d.yaml", file))
}

// manifestOf returns the manifests of a file, if there are so many keys. The key
// with the number suspended is.
func manifestOf(file, keys, suspended int) []byte {
	var b bytes.Buffer
	for app := file * applicationsOfFile; app < (file+1)*applicationsOfFile && app*keysOfApplication < keys; app++ {
		fmt.Fprintf(&b, "---\napiVersion: hub.traefik.io/v1alpha1\nkind: ManagedApplication\n"+
			"metadata: {name: app-%07d, namespace: bench}\nspec:\n  appId: app-%07[1]d\n  owner: 67f67907ee260b44336a952e\n  apiKeys:\n", app)
		for key := app * keysOfApplication; key < min((app+1)*keysOfApplication, keys); key++ {
			fmt.Fprintf(&b, "    - {title: key-%d, value: \"%s\"", key%keysOfApplication, digest(key))
			if key == suspended {
				b.WriteString(", suspended: true")
			}
			b.WriteString("}\n")
		}
	}
	return b.Bytes()
}

func digest(key int) string { return stack.Digest(fmt.Sprintf("tg_bench_%030d", key)) }

// suspend suspends a key, or takes that back. It returns the time at which the
// manifest was put in its place.
func (p *plane) suspend(key int, suspended bool) (time.Time, error) {
	if !suspended {
		key = -key - 1
	}
	file := max(key, -key-1) / keysOfFile
	path := manifestPath(p.Manifests, file)
	// Names that begin with a dot are passed over.
	next := filepath.Join(p.Manifests, ".next")
	if err := os.WriteFile(next, manifestOf(file, p.keys, key), 0o600); err != nil {
		return time.Time{}, err
	}
	saved := time.Now()
	return saved, os.Rename(next, path)
}

// waiting returns how many requests the control plane holds. It fails as long as
// there is no table.
func (p *plane) waiting(ctx context.Context) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/healthz", http.NoBody)
	if err != nil {
		return 0, err
	}
	transport := newTransport(p.trust, nil)
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Do(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var health struct{ Waiting int }
	if err := json.NewDecoder(res.Body).Decode(&health); err != nil {
		return 0, err
	}
	if res.StatusCode != http.StatusOK {
		return 0, errors.New(res.Status)
	}
	return health.Waiting, nil
}

// usage is what a process has used so far.
type usage struct {
	cpu      time.Duration
	resident int64 // bytes, at the moment
}

func used(pid int) (u usage, err error) {
	if u.cpu, err = proc.CPUTime(pid); err == nil {
		u.resident, _, err = proc.Resident(pid)
	}
	return u, err
}

// certificate makes a certificate of 127.0.0.1.
func certificate(dir string) (certFile, keyFile string, trust *x509.CertPool, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return "", "", nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", nil, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	trust = x509.NewCertPool()
	trust.AppendCertsFromPEM(certPEM)
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	return certFile, keyFile, trust, errors.Join(
		os.WriteFile(certFile, certPEM, 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
}
