// SPDX-License-Identifier: Apache-2.0

package command

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

type kubeconfigFlags struct {
	holder
	token   bool
	address string
	file    string
}

func (a *app) kubeconfigCommand() *cobra.Command {
	var f kubeconfigFlags
	cmd := &cobra.Command{
		Use:   "kubeconfig --user NAME",
		Short: "Write the file with which kubectl reaches the server",
		Long: `kubeconfig lets somebody in at ripstop-server over https and writes the file
that kubectl and other clients of Kubernetes need for it: where the server is,
how to know it, and a client certificate or, with --token, a token.

The key of the certificate is made here and goes nowhere but into the file. Who
has the file is the user: keep it as a password. ripstop token revoke makes it
void. What the user may do is what RoleBindings give to him and his groups.`,
		Example: `  ripstop kubeconfig --user alice --group operators --file alice.kubeconfig
  ripstop kubeconfig --user root --group ripstop:admins --expires 12h > admin.kubeconfig
  ripstop kubeconfig --user ci --token --address https://ripstop.example.org:8443`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.user == "" {
				return usage(cmd, "kubeconfig: --user is missing: for whom is it?")
			}
			if err := a.kubeconfig(cmd, f); err != nil {
				return fmt.Errorf("kubeconfig: %w", err)
			}
			return nil
		},
	}
	addHolder(cmd, &f.holder)
	cmd.Flags().BoolVar(&f.token, "token", false, "a token instead of a client certificate")
	cmd.Flags().StringVar(&f.address, "address", "", "URL of the server as the user calls it (default: what the server says)")
	cmd.Flags().StringVar(&f.file, "file", "", "write there, mode 0600, instead of to standard output")
	_ = cmd.RegisterFlagCompletionFunc("address", cobra.NoFileCompletions)
	return cmd
}

func (a *app) kubeconfig(cmd *cobra.Command, f kubeconfigFlags) error {
	c, err := a.connect(cmd, false)
	if err != nil {
		return err
	}
	defer c.Close()
	user := map[string]any{}
	var got *api.Credential
	if f.token {
		var token string
		if got, token, err = a.createToken(cmd, c, f.holder); err != nil {
			return err
		}
		user["token"] = token
	} else {
		var key []byte
		if got, key, err = a.createCertificate(cmd, c, f.holder); err != nil {
			return err
		}
		user["client-certificate-data"], user["client-key-data"] = []byte(got.Status.Certificate), key
	}
	if f.address == "" {
		f.address = got.Status.Address
	}
	if f.address == "" {
		_ = c.Delete(cmd.Context(), got.Key(), store.Always()) // of no use to anybody
		return errors.New("the server is on its socket alone, which kubectl cannot use: set listen in /etc/ripstop/ripstop-server.yaml, or give --address")
	}
	data, err := yaml.Marshal(kubeconfigOf(f.address, got, user))
	if err != nil {
		return err
	}
	if f.file == "" {
		_, err = a.Out.Write(data)
	} else {
		err = writePrivate(f.file, data)
	}
	if err == nil {
		fmt.Fprintf(a.Err, "credential/%s created for user %s, good until %s\n", got.Name, got.Spec.User, got.Spec.Expires.UTC().Format(time.RFC3339))
	}
	return err
}

// createCertificate makes a key, and has the server sign a certificate for it.
func (a *app) createCertificate(cmd *cobra.Command, c *client.Client, h holder) (*api.Credential, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	req, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	want := h.credential(a.now())
	want.Spec.Request = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: req}))
	got, err := createCredential(cmd, c, want)
	if err != nil {
		return nil, nil, err
	}
	if got.Status.Certificate == "" {
		return nil, nil, fmt.Errorf("credential/%s: the server has signed nothing", got.Name)
	}
	return got, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// kubeconfigOf is the document (v1 Config of Kubernetes' client-go). Bytes are
// written in base64, as it wants them.
func kubeconfigOf(address string, c *api.Credential, user map[string]any) map[string]any {
	cluster := map[string]any{"server": address}
	if c.Status.Authority != "" {
		cluster["certificate-authority-data"] = []byte(c.Status.Authority)
	}
	named := func(what string, value any) []any { return []any{map[string]any{"name": "ripstop", what: value}} }
	return map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "ripstop",
		"clusters": named("cluster", cluster), "users": named("user", user),
		"contexts": named("context", map[string]any{"cluster": "ripstop", "user": "ripstop"}),
	}
}

// writePrivate writes a file that nobody else may read, whole or not at all.
func writePrivate(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
