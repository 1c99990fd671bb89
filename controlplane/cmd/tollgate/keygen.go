package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/tollgate-apim/tollgate/controlplane/signing"
)

func newKeygenCommand() *cobra.Command {
	var out, public string
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make a key that signs tables",
		Long: `Makes an ed25519 key, writes the private key to --out, for serve's --signing-key,
and prints the public key, for sync.publicKey of the gateways.

A file that is there already is never overwritten. With --public, nothing is made:
the public key of that private key is printed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			private, err := makeOrRead(out, public)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), signing.PublicKey(private))
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "tollgate-signing.key", "file for the private key, PKCS #8 in PEM")
	f.StringVar(&public, "public", "", "file with a private key, to print the public key of")
	cmd.MarkFlagsMutuallyExclusive("out", "public")
	return cmd
}

func makeOrRead(out, public string) (ed25519.PrivateKey, error) {
	if public != "" {
		data, err := os.ReadFile(public)
		if err != nil {
			return nil, fmt.Errorf("--public: %w", err)
		}
		private, err := signing.Decode(data)
		if err != nil {
			return nil, fmt.Errorf("--public: %s %w", public, err)
		}
		return private, nil
	}
	private, err := signing.New()
	if err != nil {
		return nil, err
	}
	data, err := signing.Encode(private)
	if err != nil {
		return nil, err
	}
	if err := writeSecret(out, data); err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	return private, nil
}

// writeSecret writes a file that only its owner may read, and that is not there
// yet. It leaves nothing behind when it fails.
func writeSecret(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already, and is not overwritten", path)
	}
	if err != nil {
		return err
	}
	if _, err = file.Write(data); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
