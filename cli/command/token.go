// SPDX-License-Identifier: Apache-2.0

package command

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

func (a *app) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token COMMAND",
		Short: "Let people and programs in at the server, and out again",
		Long: `token makes and revokes the tokens with which people and programs show who they
are to ripstop-server over https. The server keeps a hash of a token only: it is
shown once, and whoever loses it makes another.

Who somebody is does not say what he may do: that is what Roles and
RoleBindings are for.`,
		Example: `  ripstop token create --user ci --group builders --expires 24h
  ripstop token list
  ripstop token revoke ci-x7k2p`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.tokenCreateCommand(), a.tokenListCommand(), a.tokenRevokeCommand())
	return cmd
}

// holder are the flags that say for whom a credential is.
type holder struct {
	user    string
	groups  []string
	expires time.Duration
	name    string
}

// addHolder adds the flags of a holder.
func addHolder(cmd *cobra.Command, h *holder) {
	f := cmd.Flags()
	f.StringVar(&h.user, "user", "", "name of the person or program it is for")
	f.StringArrayVar(&h.groups, "group", nil, "group that he is in; may be repeated (ripstop:admins may do everything)")
	f.DurationVar(&h.expires, "expires", 30*24*time.Hour, "how long it is good, at most 8784h")
	f.StringVar(&h.name, "name", "", "name of the Credential (default: made of the user's)")
	for _, name := range []string{"user", "group", "expires", "name"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
}

// credential is a Credential for the holder, of which the last part is missing.
func (h holder) credential(now time.Time) *api.Credential {
	c := &api.Credential{TypeMeta: api.TypeMeta{Kind: api.KindCredential, APIVersion: api.VersionOurs}}
	c.Name = h.name
	if c.Name == "" {
		c.GenerateName = prefixFor(h.user)
	}
	c.Spec.User, c.Spec.Groups = h.user, h.groups
	c.Spec.Expires = api.Time{Time: now.Add(h.expires).UTC().Truncate(time.Second)}
	return c
}

// prefixFor is the beginning of an object's name made of a user's.
func prefixFor(user string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(user))
	name = strings.Trim(name, "-")
	if name = name[:min(len(name), 40)]; name == "" {
		name = "credential"
	}
	return strings.TrimRight(name, "-") + "-"
}

// newSecret is 32 random bytes as text.
func newSecret() string {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails; Go 1.24
	return base64.RawURLEncoding.EncodeToString(secret)
}

// createToken makes a token for the holder. What it is of is told by the
// Credential that the server answers.
func (a *app) createToken(cmd *cobra.Command, c *client.Client, h holder) (*api.Credential, string, error) {
	secret := newSecret()
	want := h.credential(a.now())
	want.Spec.TokenHash = api.HashToken(secret)
	got, err := createCredential(cmd, c, want)
	if err != nil {
		return nil, "", err
	}
	return got, api.Token(got.Name, secret), nil
}

func createCredential(cmd *cobra.Command, c *client.Client, want *api.Credential) (*api.Credential, error) {
	o, err := c.Create(cmd.Context(), want, client.Options{Manager: "ripstop"})
	if err != nil {
		return nil, err
	}
	got, is := o.(*api.Credential)
	if !is {
		return nil, fmt.Errorf("the server answers with %s", o.Key())
	}
	return got, nil
}

func (a *app) tokenCreateCommand() *cobra.Command {
	var h holder
	cmd := &cobra.Command{
		Use:   "create --user NAME",
		Short: "Make a token and print it, once",
		Long: `create makes a token and prints it on standard output, and what it is for on
standard error. The server never sees the token itself until it is used.`,
		Example: `  ripstop token create --user ci --group builders --expires 24h > token`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if h.user == "" {
				return usage(cmd, "token create: --user is missing: for whom is it?")
			}
			c, err := a.connect(cmd, false)
			if err != nil {
				return err
			}
			defer c.Close()
			got, token, err := a.createToken(cmd, c, h)
			if err != nil {
				return fmt.Errorf("token create: %w", err)
			}
			fmt.Fprintln(a.Out, token)
			fmt.Fprintf(a.Err, "credential/%s created for user %s, good until %s; it is not shown again\n",
				got.Name, got.Spec.User, got.Spec.Expires.UTC().Format(time.RFC3339))
			return nil
		},
	}
	addHolder(cmd, &h)
	return cmd
}

func (a *app) tokenListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List tokens and client certificates",
		Long:    `list shows all Credentials: whose they are and until when they are good.`,
		Example: `  ripstop token list`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(cmd, false)
			if err != nil {
				return err
			}
			defer c.Close()
			objs, _, err := c.List(cmd.Context(), api.KindCredential, store.ListOptions{})
			if err != nil {
				return fmt.Errorf("token list: %w", err)
			}
			d, _ := api.DescriptorOf(api.KindCredential)
			t := newTable(a.Out)
			row := func(cell func(api.Column) string) {
				var cells []string
				for _, col := range d.Columns {
					cells = append(cells, cell(col))
				}
				t.row(cells...)
			}
			row(func(c api.Column) string { return c.Name })
			for _, o := range objs {
				row(func(c api.Column) string { return c.Value(o) })
			}
			return t.flush()
		},
	}
}

func (a *app) tokenRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke NAME...",
		Short: "Make tokens and client certificates void",
		Long: `revoke deletes Credentials. Whoever shows the token or certificate from then on
is refused, within a second; a watch that runs ends.`,
		Example: `  ripstop token revoke ci-x7k2p`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, "token revoke: which? ripstop token list shows them")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd, false)
			if err != nil {
				return err
			}
			defer c.Close()
			var errs []error
			for _, name := range args {
				if err := c.Delete(cmd.Context(), api.Key{Kind: api.KindCredential, Name: name}, store.Always()); err != nil {
					errs = append(errs, fmt.Errorf("token revoke: %s: %w", name, err))
					continue
				}
				fmt.Fprintf(a.Out, "credential/%s revoked\n", name)
			}
			return errors.Join(errs...)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
}
