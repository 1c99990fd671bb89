package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tollgate-apim/tollgate/controlplane/key"
)

// maxKeyBytes is the longest key that gateways accept.
const maxKeyBytes = 512

func newKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make API keys and their digests",
		// Not repeated: it may be a key.
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errors.New("key: unknown command, must be new or hash")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKeyNewCommand(), newKeyHashCommand())
	return cmd
}

// entry is what the manifests of a new key name.
type entry struct {
	Key, Digest            string
	Name, Namespace, Title string
	AppID, Owner           string
}

// manifests is a key with its digest, and the objects that make it known. Values
// are quoted by %q, whose escapes YAML shares for what entry.check lets pass.
var manifests = template.Must(template.New("").Parse(`# Give the key to the client and keep it nowhere else: it is not shown again.
key: {{.Key}}
digest: {{.Digest}}
---
apiVersion: v1
kind: Secret
metadata:
  name: {{.Name}}-key
  namespace: {{.Namespace}}
type: Opaque
stringData:
  key: "{{.Digest}}"
---
apiVersion: hub.traefik.io/v1alpha1
kind: ManagedApplication
metadata:
  name: {{.Name}}
  namespace: {{.Namespace}}
spec:
  appId: {{printf "%q" .AppID}}
  owner: {{printf "%q" .Owner}}
  apiKeys:
    - secretName: {{.Name}}-key
      title: {{printf "%q" .Title}}
`))

func newKeyNewCommand() *cobra.Command {
	var e entry
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Make a key, its digest, and the manifests that make it known",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if e.AppID == "" {
				e.AppID = e.Name
			}
			if e.Title == "" {
				e.Title = e.Name + "-key"
			}
			if err := e.check(); err != nil {
				return err
			}
			var err error
			if e.Key, err = key.New(rand.Reader); err != nil {
				return err
			}
			e.Digest = key.Digest(e.Key)
			return manifests.Execute(cmd.OutOrStdout(), e)
		},
	}
	f := cmd.Flags()
	f.StringVar(&e.Name, "name", "my-application", "name of the ManagedApplication; that of the Secret follows")
	f.StringVar(&e.Namespace, "namespace", "default", "namespace of both")
	f.StringVar(&e.Title, "title", "", "title of the key (default: the Secret's name)")
	f.StringVar(&e.AppID, "app-id", "", "App ID (default: the name)")
	f.StringVar(&e.Owner, "owner", "nobody", "owner of the application")
	return cmd
}

// check tells what is wrong with the flags, all at once.
func (e entry) check() error {
	var problems []error
	if len(validation.IsDNS1123Subdomain(e.Name+"-key")) > 0 {
		problems = append(problems, fmt.Errorf("--name: %q, must be a Kubernetes name of at most 249 characters", e.Name))
	}
	if len(validation.IsDNS1123Label(e.Namespace)) > 0 {
		problems = append(problems, fmt.Errorf("--namespace: %q, must be a Kubernetes namespace", e.Namespace))
	}
	for _, f := range []struct{ flag, value string }{{"--title", e.Title}, {"--app-id", e.AppID}, {"--owner", e.Owner}} {
		if f.value == "" || len(f.value) > 253 || strings.ContainsFunc(f.value, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
			problems = append(problems, fmt.Errorf("%s: %q, must be one line of 1 to 253 characters", f.flag, f.value))
		}
	}
	return errors.Join(problems...)
}

func newKeyHashCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hash < FILE",
		Short: "Print the digest of the key on standard input",
		Long: `Reads a key from standard input, to its end, and prints its digest. One line
break at the end is not part of the key.

The key is never taken from an argument: arguments are seen by every process of
the machine, and kept by shells.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errors.New("key hash: a key is read from standard input, never from an argument: others can see those; if it was a real key, replace it")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := readKey(cmd.InOrStdin())
			if err != nil {
				return err
			}
			if key.Mistyped(text) {
				fmt.Fprintln(cmd.ErrOrStderr(), "tollgate: warning: this looks like a key of Tollgate's, but its checksum is wrong: was it copied whole?")
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), key.Digest(text))
			return err
		},
	}
}

func readKey(r io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxKeyBytes+3))
	if err != nil {
		return "", fmt.Errorf("reading the key: %w", err)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case text == "":
		return "", errors.New("key hash: standard input has no key")
	case len(text) > maxKeyBytes:
		return "", fmt.Errorf("key hash: the key has more than %d bytes, which gateways refuse", maxKeyBytes)
	}
	return text, nil
}
