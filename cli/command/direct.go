// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

// etcdConfig says how to reach a datastore without a server of its own, as
// the environment variables of calicoctl do.
type etcdConfig struct {
	Endpoints                 string // separated by commas
	CAFile, CertFile, KeyFile string
	Username, Password        string
}

func (e etcdConfig) used() bool { return e.Endpoints != "" }

// etcdFromEnvironment reads DATASTORE_TYPE, ETCD_ENDPOINTS and the like, each
// also with the prefix CALICO_. Without endpoints there is no datastore to
// reach so.
func etcdFromEnvironment() (etcdConfig, error) {
	get := func(name string) string {
		if v := os.Getenv("CALICO_" + name); v != "" {
			return v
		}
		return os.Getenv(name)
	}
	e := etcdConfig{
		Endpoints: get("ETCD_ENDPOINTS"), CAFile: get("ETCD_CA_CERT_FILE"), CertFile: get("ETCD_CERT_FILE"), KeyFile: get("ETCD_KEY_FILE"),
		Username: get("ETCD_USERNAME"), Password: get("ETCD_PASSWORD"),
	}
	switch t := get("DATASTORE_TYPE"); {
	case t == "etcdv3" && e.Endpoints == "" && get("ETCD_DISCOVERY_SRV") != "":
		return e, errors.New("ETCD_DISCOVERY_SRV is not understood; name the endpoints in ETCD_ENDPOINTS")
	case t == "etcdv3" && e.Endpoints == "":
		return e, errors.New("DATASTORE_TYPE is etcdv3: no etcd endpoints specified; set ETCD_ENDPOINTS")
	case t == "kubernetes":
		return etcdConfig{}, nil // ripstop-server is asked, which speaks as Kubernetes does
	case t == "" || t == "etcdv3":
		return e, nil
	default:
		return e, fmt.Errorf("DATASTORE_TYPE: unknown datastore type: %s; it is etcdv3 or kubernetes", t)
	}
}

// calicoConfig is calicoctl's file of settings, as far as it leads to etcd.
type calicoConfig struct {
	Kind       string         `json:"kind"`
	APIVersion string         `json:"apiVersion"`
	Metadata   map[string]any `json:"metadata"`
	Spec       struct {
		DatastoreType  string `json:"datastoreType"`
		EtcdEndpoints  string `json:"etcdEndpoints"`
		EtcdUsername   string `json:"etcdUsername"`
		EtcdPassword   string `json:"etcdPassword"`
		EtcdKeyFile    string `json:"etcdKeyFile"`
		EtcdCertFile   string `json:"etcdCertFile"`
		EtcdCACertFile string `json:"etcdCACertFile"`
	} `json:"spec"`
}

// etcdFromFile reads a file of settings of calicoctl; is tells whether the
// text is one.
func etcdFromFile(path string, data []byte) (e etcdConfig, is bool, err error) {
	var head struct {
		Kind string `json:"kind"`
	}
	if yaml.Unmarshal(data, &head) != nil || head.Kind != "CalicoAPIConfig" {
		return e, false, nil
	}
	var c calicoConfig
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		return e, true, fmt.Errorf("%s: of calicoctl's settings those that lead to etcd are understood, with certificates in files: %w", path, err)
	}
	if c.Spec.DatastoreType != "" && c.Spec.DatastoreType != "etcdv3" || c.Spec.EtcdEndpoints == "" {
		return e, true, fmt.Errorf("%s: spec.datastoreType is %q: want etcdv3, and spec.etcdEndpoints", path, c.Spec.DatastoreType)
	}
	return etcdConfig{
		Endpoints: c.Spec.EtcdEndpoints, CAFile: c.Spec.EtcdCACertFile, CertFile: c.Spec.EtcdCertFile, KeyFile: c.Spec.EtcdKeyFile,
		Username: c.Spec.EtcdUsername, Password: c.Spec.EtcdPassword,
	}, true, nil
}

// directTime bounds how long a server of one's own may take to answer.
const directTime = 20 * time.Second

// direct runs a ripstop-server for this one command, in front of the datastore
// that the environment names, on a socket that only this user can reach, and
// returns the socket's address. So what is written is defaulted, checked and
// refused exactly as it is by a server that runs, and this program needs none
// of what the server is made of.
func (a *app) direct(cmd *cobra.Command) (server string, err error) {
	program, err := serverProgram()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "ripstop-") // mode 0700
	if err != nil {
		return "", err
	}
	a.atEnd(func() { os.RemoveAll(dir) })
	e := a.cfg.Etcd
	// An empty configuration of its own: that of this machine is for the
	// server of this machine.
	none := filepath.Join(dir, "ripstop-server.yaml")
	args := []string{"--config", none, "--run-dir", dir, "--state-dir", filepath.Join(dir, "state"), "--log-level", "warn", "--etcd-endpoints", e.Endpoints}
	files := map[string]string{none: ""}
	for _, f := range []struct{ flag, path string }{{"--etcd-ca-file", e.CAFile}, {"--etcd-cert-file", e.CertFile}, {"--etcd-key-file", e.KeyFile}} {
		if f.path != "" {
			path, err := filepath.Abs(f.path)
			if err != nil {
				return "", err
			}
			args = append(args, f.flag, path)
		}
	}
	if e.Username != "" {
		password := filepath.Join(dir, "password")
		files[password] = e.Password + "\n"
		args = append(args, "--etcd-username", e.Username, "--etcd-password-file", password)
	}
	for path, text := range files {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	server = "unix://" + filepath.Join(dir, "api.sock")
	return server, a.runServer(cmd.Context(), program, args, server)
}

// serverProgram is where ripstop-server is: beside this program, or in PATH.
func serverProgram() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "ripstop-server")
		if fi, err := os.Stat(beside); err == nil && fi.Mode().IsRegular() {
			return beside, nil
		}
	}
	path, err := exec.LookPath("ripstop-server")
	if err != nil {
		return "", errors.New("ETCD_ENDPOINTS: to use a datastore directly, ripstop-server must be installed on this machine, beside ripstop or in PATH; or name a running server with --server")
	}
	return path, nil
}

// runServer starts a server and waits until it answers. It is stopped when
// the command is at its end.
func (a *app) runServer(ctx context.Context, program string, args []string, server string) error {
	var log bytes.Buffer
	child := exec.Command(program, args...)
	child.Stderr = &log
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "RIPSTOP_") {
			child.Env = append(child.Env, v)
		}
	}
	// A Ctrl-C is this program's to act on; if it dies, so does its server.
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := child.Start(); err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	gone := false
	a.atEnd(func() {
		if !gone {
			_ = child.Process.Signal(syscall.SIGTERM)
			<-ended
		}
	})
	c, err := client.New(client.Config{Server: server})
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, directTime)
	defer cancel()
	for {
		// It answers at once, and a new datastore has its tiers soon after.
		_, err := c.Get(ctx, api.Key{Kind: api.KindTier, Name: api.DefaultTier})
		var conn *client.ConnError
		switch {
		case errors.As(err, &conn) || errors.Is(err, store.ErrNotFound):
		case errors.Is(err, store.ErrUnavailable):
			return fmt.Errorf("datastore %s: %w", a.cfg.Etcd.Endpoints, err)
		default:
			return nil
		}
		select {
		case err := <-ended:
			gone = true
			return fmt.Errorf("%s: %w\n%s", program, err, bytes.TrimSpace(log.Bytes()))
		case <-ctx.Done():
			return fmt.Errorf("%s: does not answer: %w", program, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}
