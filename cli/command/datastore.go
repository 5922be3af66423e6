// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

func (a *app) datastoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "datastore COMMAND",
		Short: "Move all resources from one datastore to another",
		Long: `datastore has what concerns the datastore as a whole, by the names that
calicoctl has for it. To look at a datastore without a server, set
ETCD_ENDPOINTS and the other variables of calicoctl.`,
		Example: `  ripstop datastore migrate export > all.txt
  ripstop datastore migrate import -f all.txt`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	migrate := &cobra.Command{
		Use:   "migrate COMMAND",
		Short: "Export and import all resources",
		Long: `migrate writes all resources of a datastore to a file, and reads such a file
into another. The format is that of calicoctl datastore migrate export.`,
		Example: cmd.Example,
		Args:    noSuchCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	migrate.AddCommand(a.exportCommand(), a.importCommand())
	cmd.AddCommand(migrate)
	return cmd
}

// migrated are the kinds that a file of calicoctl has, in its order; those
// that Ripstop does not have are left out.
var migrated = []api.Kind{
	api.KindIPPool, api.KindTier, api.KindGlobalNetworkPolicy, api.KindStagedGlobalNetworkPolicy, api.KindGlobalNetworkSet,
	api.KindHostEndpoint, api.KindNetworkPolicy, api.KindStagedNetworkPolicy, api.KindNetworkSet, api.KindNode,
	api.KindFelixConfiguration,
}

// migratedToo are kinds that calicoctl leaves out, and does not read.
var migratedToo = []api.Kind{api.KindNamespace, api.KindProfile, api.KindWorkloadEndpoint, api.KindRole, api.KindRoleBinding}

func (a *app) exportCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print all resources, for import into another datastore",
		Long: `export prints all resources of the kinds that calicoctl datastore migrate export
prints, in its format: lists as YAML, then ClusterInformation and IPAM data as
JSON. All of it is of one moment, whatever is written meanwhile, so nothing
needs to be locked.

Profiles, workload endpoints, namespaces, roles and their bindings are not in
that format; --all-kinds adds them, for ripstop to read. IPAM data (which
addresses are in use) and BGP are not exported. With a resource that cannot be
read nothing is printed.`,
		Example: `  ripstop datastore migrate export > all.txt
  ETCD_ENDPOINTS=https://10.0.0.1:2379 ripstop datastore migrate export > all.txt`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.export(cmd, all) },
	}
	cmd.Flags().BoolVar(&all, "all-kinds", false, "also what calicoctl leaves out")
	return cmd
}

func (a *app) export(cmd *cobra.Command, all bool) error {
	c, err := a.connect(cmd, false)
	if err != nil {
		return err
	}
	defer c.Close()
	kinds := migrated
	if all {
		kinds = append(append([]api.Kind{}, migratedToo...), migrated...)
	}
	p := a.progress("export", len(kinds))
	defer p.end()
	var lists []api.List[api.Object]
	var at api.Revision
	for i, kind := range kinds {
		p.step(i)
		d, _ := api.DescriptorOf(kind)
		objs, rev, err := c.List(cmd.Context(), kind, store.ListOptions{Revision: at})
		if err != nil {
			return fmt.Errorf("export: nothing was printed: %s: %w", d.Plural, err)
		}
		if at == 0 {
			at = rev
		}
		for _, o := range objs {
			if u, bad := o.(*api.Unreadable); bad {
				return fmt.Errorf("export: nothing was printed: %s cannot be read: %w", u.Key(), u.Err)
			}
		}
		exported(objs)
		if kind == api.KindIPPool && len(objs) > 0 {
			fmt.Fprintln(a.Err, "warning: which addresses of IP pools are in use (IPAM data) is not exported")
		}
		lists = append(lists, api.List[api.Object]{Kind: string(kind) + "List", APIVersion: d.APIVersion(), Items: objs})
	}
	info, err := c.Get(cmd.Context(), api.Key{Kind: api.KindClusterInformation, Name: "default"})
	if err != nil {
		return fmt.Errorf("export: nothing was printed: %w", err)
	}
	p.clear()
	for _, l := range lists {
		if err := writeDocument(a.Out, "yaml", l); err != nil {
			return err
		}
		fmt.Fprintln(a.Out, "---")
	}
	fmt.Fprintln(a.Out, migrationBreak)
	if err := writeDocument(a.Out, "json", info); err != nil {
		return err
	}
	fmt.Fprintln(a.Out, migrationBreak)
	return writeDocument(a.Out, "json", ipamData{Affinities: []any{}, Blocks: []any{}, Handles: []any{}})
}

// migrationBreak is the line between the parts of a file.
const migrationBreak = "==="

// ipamData is the last part of a file.
type ipamData struct {
	Affinities []any `json:"block_affinities"`
	Blocks     []any `json:"blocks"`
	Handles    []any `json:"handles"`
	Config     any   `json:"config,omitempty"`
}
