// SPDX-License-Identifier: Apache-2.0

package api

// FelixConfiguration sets parameters of the agents. It holds for all hosts
// when named DefaultName, for one host when named "node.<host>", else for the
// hosts whose Node its NodeSelector matches.
type FelixConfiguration struct {
	TypeMeta
	Meta `json:"metadata"`
	Spec FelixConfigurationSpec `json:"spec"`
}

// FelixConfigurationSpec has a field for every parameter of Calico. What each
// means, its default and its limits are data: see FelixParameters. A pointer
// that is nil and a string that is empty are not set at this level; a pointer
// to an empty list is set to nothing. BPFLogLevel is written even when empty.
type FelixConfigurationSpec struct {
	// NodeSelector chooses hosts by the labels of their Node; only in objects
	// that are named neither DefaultName nor "node.<host>". It is no
	// parameter.
	NodeSelector string `json:"nodeSelector,omitempty"`

	// Process: Feature detection/overrides.
	FeatureDetectOverride string `json:"featureDetectOverride,omitempty"`
	FeatureGates          string `json:"featureGates,omitempty"`

	// Process: Go runtime.
	GoGCThreshold   *int `json:"goGCThreshold,omitempty"`
	GoMaxProcs      *int `json:"goMaxProcs,omitempty"`
	GoMemoryLimitMB *int `json:"goMemoryLimitMB,omitempty"`

	// Process: Health port and timeouts.
	HealthEnabled          *bool                   `json:"healthEnabled,omitempty"`
	HealthHost             string                  `json:"healthHost,omitempty"`
	HealthPort             *int                    `json:"healthPort,omitempty"`
	HealthTimeoutOverrides []HealthTimeoutOverride `json:"healthTimeoutOverrides,omitempty"`

	// Process: Logging.
	LogActionRateLimit      string `json:"logActionRateLimit,omitempty"`
	LogActionRateLimitBurst *int   `json:"logActionRateLimitBurst,omitempty"`
	LogDebugFilenameRegex   string `json:"logDebugFilenameRegex,omitempty"`
	LogFilePath             string `json:"logFilePath,omitempty"`
	LogPrefix               string `json:"logPrefix,omitempty"`
	LogSeverityFile         string `json:"logSeverityFile,omitempty"`
	LogSeverityScreen       string `json:"logSeverityScreen,omitempty"`
	LogSeveritySys          string `json:"logSeveritySys,omitempty"`

	// Process: Prometheus metrics.
	PrometheusGoMetricsEnabled        *bool  `json:"prometheusGoMetricsEnabled,omitempty"`
	PrometheusMetricsCAFile           string `json:"prometheusMetricsCAFile,omitempty"`
	PrometheusMetricsCertFile         string `json:"prometheusMetricsCertFile,omitempty"`
	PrometheusMetricsClientAuth       string `json:"prometheusMetricsClientAuth,omitempty"`
	PrometheusMetricsEnabled          *bool  `json:"prometheusMetricsEnabled,omitempty"`
	PrometheusMetricsHost             string `json:"prometheusMetricsHost,omitempty"`
	PrometheusMetricsKeyFile          string `json:"prometheusMetricsKeyFile,omitempty"`
	PrometheusMetricsPort             *int   `json:"prometheusMetricsPort,omitempty"`
	PrometheusProcessMetricsEnabled   *bool  `json:"prometheusProcessMetricsEnabled,omitempty"`
	PrometheusWireGuardMetricsEnabled *bool  `json:"prometheusWireGuardMetricsEnabled,omitempty"`

	// Dataplane: Common.
	AllowIPIPPacketsFromWorkloads     *bool              `json:"allowIPIPPacketsFromWorkloads,omitempty"`
	AllowVXLANPacketsFromWorkloads    *bool              `json:"allowVXLANPacketsFromWorkloads,omitempty"`
	CgroupV2Path                      string             `json:"cgroupV2Path,omitempty"`
	ChainInsertMode                   string             `json:"chainInsertMode,omitempty"`
	DataplaneDriver                   string             `json:"dataplaneDriver,omitempty"`
	DataplaneWatchdogTimeout          *Duration          `json:"dataplaneWatchdogTimeout,omitempty"`
	DefaultEndpointToHostAction       string             `json:"defaultEndpointToHostAction,omitempty"`
	DeviceRouteProtocol               *int               `json:"deviceRouteProtocol,omitempty"`
	DeviceRouteSourceAddress          string             `json:"deviceRouteSourceAddress,omitempty"`
	DeviceRouteSourceAddressIPv6      string             `json:"deviceRouteSourceAddressIPv6,omitempty"`
	DisableConntrackInvalidCheck      *bool              `json:"disableConntrackInvalidCheck,omitempty"`
	EndpointStatusPathPrefix          string             `json:"endpointStatusPathPrefix,omitempty"`
	ExternalNodesList                 *[]string          `json:"externalNodesList,omitempty"`
	FailsafeInboundHostPorts          *[]ProtoPort       `json:"failsafeInboundHostPorts,omitempty"`
	FailsafeOutboundHostPorts         *[]ProtoPort       `json:"failsafeOutboundHostPorts,omitempty"`
	FloatingIPs                       string             `json:"floatingIPs,omitempty"`
	IPForwarding                      string             `json:"ipForwarding,omitempty"`
	IPv4ElevatedRoutePriority         *int               `json:"ipv4ElevatedRoutePriority,omitempty"`
	IPv4NormalRoutePriority           *int               `json:"ipv4NormalRoutePriority,omitempty"`
	IPv6ElevatedRoutePriority         *int               `json:"ipv6ElevatedRoutePriority,omitempty"`
	IPv6NormalRoutePriority           *int               `json:"ipv6NormalRoutePriority,omitempty"`
	InterfaceExclude                  string             `json:"interfaceExclude,omitempty"`
	InterfacePrefix                   string             `json:"interfacePrefix,omitempty"`
	InterfaceRefreshInterval          *Duration          `json:"interfaceRefreshInterval,omitempty"`
	IPv6Support                       *bool              `json:"ipv6Support,omitempty"`
	IstioAmbientMode                  string             `json:"istioAmbientMode,omitempty"`
	IstioDSCPMark                     *DSCP              `json:"istioDSCPMark,omitempty"`
	LiveMigrationRouteConvergenceTime *Duration          `json:"liveMigrationRouteConvergenceTime,omitempty"`
	MTUIfacePattern                   string             `json:"mtuIfacePattern,omitempty"`
	NATOutgoingAddress                string             `json:"natOutgoingAddress,omitempty"`
	NATOutgoingExclusions             string             `json:"natOutgoingExclusions,omitempty"`
	NATPortRange                      *Port              `json:"natPortRange,omitempty"`
	NftablesMode                      string             `json:"nftablesMode,omitempty"`
	NetlinkTimeout                    *Duration          `json:"netlinkTimeout,omitempty"`
	PolicySyncPathPrefix              string             `json:"policySyncPathPrefix,omitempty"`
	ProgramClusterRoutes              string             `json:"programClusterRoutes,omitempty"`
	RemoveExternalRoutes              *bool              `json:"removeExternalRoutes,omitempty"`
	RequireMTUFile                    *bool              `json:"requireMTUFile,omitempty"`
	RouteRefreshInterval              *Duration          `json:"routeRefreshInterval,omitempty"`
	RouteSource                       string             `json:"routeSource,omitempty"`
	RouteSyncDisabled                 *bool              `json:"routeSyncDisabled,omitempty"`
	RouteTableRange                   *RouteTableRange   `json:"routeTableRange,omitempty"`
	RouteTableRanges                  *[]RouteTableRange `json:"routeTableRanges,omitempty"`
	ServiceLoopPrevention             string             `json:"serviceLoopPrevention,omitempty"`
	SidecarAccelerationEnabled        *bool              `json:"sidecarAccelerationEnabled,omitempty"`
	UseInternalDataplaneDriver        *bool              `json:"useInternalDataplaneDriver,omitempty"`
	WorkloadSourceSpoofing            string             `json:"workloadSourceSpoofing,omitempty"`

	// Dataplane: iptables.
	IPSetsRefreshInterval              *Duration `json:"ipsetsRefreshInterval,omitempty"`
	IptablesBackend                    string    `json:"iptablesBackend,omitempty"`
	IptablesFilterAllowAction          string    `json:"iptablesFilterAllowAction,omitempty"`
	IptablesFilterDenyAction           string    `json:"iptablesFilterDenyAction,omitempty"`
	IptablesLockProbeInterval          *Duration `json:"iptablesLockProbeInterval,omitempty"`
	IptablesMangleAllowAction          string    `json:"iptablesMangleAllowAction,omitempty"`
	IptablesMarkMask                   *uint32   `json:"iptablesMarkMask,omitempty"`
	IptablesNATOutgoingInterfaceFilter string    `json:"iptablesNATOutgoingInterfaceFilter,omitempty"`
	IptablesPostWriteCheckInterval     *Duration `json:"iptablesPostWriteCheckInterval,omitempty"`
	IptablesRefreshInterval            *Duration `json:"iptablesRefreshInterval,omitempty"`
	KubeNodePortRanges                 *[]Port   `json:"kubeNodePortRanges,omitempty"`
	MaxIpsetSize                       *int      `json:"maxIpsetSize,omitempty"`

	// Dataplane: nftables.
	NftablesFilterAllowAction string    `json:"nftablesFilterAllowAction,omitempty"`
	NftablesFilterDenyAction  string    `json:"nftablesFilterDenyAction,omitempty"`
	NftablesMangleAllowAction string    `json:"nftablesMangleAllowAction,omitempty"`
	NftablesMarkMask          *uint32   `json:"nftablesMarkMask,omitempty"`
	NftablesRefreshInterval   *Duration `json:"nftablesRefreshInterval,omitempty"`

	// Dataplane: eBPF.
	BPFAttachType                      string                `json:"bpfAttachType,omitempty"`
	BPFCTLBLogFilter                   string                `json:"bpfCTLBLogFilter,omitempty"`
	BPFConnectTimeLoadBalancing        string                `json:"bpfConnectTimeLoadBalancing,omitempty"`
	BPFConnectTimeLoadBalancingEnabled *bool                 `json:"bpfConnectTimeLoadBalancingEnabled,omitempty"`
	BPFConntrackMode                   string                `json:"bpfConntrackMode,omitempty"`
	BPFConntrackLogLevel               string                `json:"bpfConntrackLogLevel,omitempty"`
	BPFConntrackTimeouts               *BPFConntrackTimeouts `json:"bpfConntrackTimeouts,omitempty"`
	BPFDSROptoutCIDRs                  *[]string             `json:"bpfDSROptoutCIDRs,omitempty"`
	BPFDataIfacePattern                string                `json:"bpfDataIfacePattern,omitempty"`
	BPFDisableGROForIfaces             string                `json:"bpfDisableGROForIfaces,omitempty"`
	BPFDisableUnprivileged             *bool                 `json:"bpfDisableUnprivileged,omitempty"`
	BPFEnabled                         *bool                 `json:"bpfEnabled,omitempty"`
	BPFEnforceRPF                      string                `json:"bpfEnforceRPF,omitempty"`
	BPFExcludeCIDRsFromNAT             *[]string             `json:"bpfExcludeCIDRsFromNAT,omitempty"`
	BPFExportBufferSizeMB              *int                  `json:"bpfExportBufferSizeMB,omitempty"`
	BPFExtToServiceConnmark            *int                  `json:"bpfExtToServiceConnmark,omitempty"`
	BPFExternalServiceMode             string                `json:"bpfExternalServiceMode,omitempty"`
	BPFForceTrackPacketsFromIfaces     *[]string             `json:"bpfForceTrackPacketsFromIfaces,omitempty"`
	BPFHostConntrackBypass             *bool                 `json:"bpfHostConntrackBypass,omitempty"`
	BPFHostNetworkedNATWithoutCTLB     string                `json:"bpfHostNetworkedNATWithoutCTLB,omitempty"`
	BPFJITHardening                    string                `json:"bpfJITHardening,omitempty"`
	BPFKubeProxyHealthzPort            *int                  `json:"bpfKubeProxyHealthzPort,omitempty"`
	BPFKubeProxyIptablesCleanupEnabled *bool                 `json:"bpfKubeProxyIptablesCleanupEnabled,omitempty"`
	BPFKubeProxyMinSyncPeriod          *Duration             `json:"bpfKubeProxyMinSyncPeriod,omitempty"`
	BPFL3IfacePattern                  string                `json:"bpfL3IfacePattern,omitempty"`
	BPFLogFilters                      *map[string]string    `json:"bpfLogFilters,omitempty"`
	BPFLogLevel                        string                `json:"bpfLogLevel"`
	BPFMaglevMaxEndpointsPerService    *int                  `json:"bpfMaglevMaxEndpointsPerService,omitempty"`
	BPFMaglevMaxServices               *int                  `json:"bpfMaglevMaxServices,omitempty"`
	BPFMapSizeConntrack                *int                  `json:"bpfMapSizeConntrack,omitempty"`
	BPFMapSizeConntrackCleanupQueue    *int                  `json:"bpfMapSizeConntrackCleanupQueue,omitempty"`
	BPFMapSizeConntrackScaling         string                `json:"bpfMapSizeConntrackScaling,omitempty"`
	BPFMapSizeIPSets                   *int                  `json:"bpfMapSizeIPSets,omitempty"`
	BPFMapSizeIfState                  *int                  `json:"bpfMapSizeIfState,omitempty"`
	BPFMapSizeNATAffinity              *int                  `json:"bpfMapSizeNATAffinity,omitempty"`
	BPFMapSizeNATBackend               *int                  `json:"bpfMapSizeNATBackend,omitempty"`
	BPFMapSizeNATFrontend              *int                  `json:"bpfMapSizeNATFrontend,omitempty"`
	BPFMapSizePerCpuConntrack          *int                  `json:"bpfMapSizePerCpuConntrack,omitempty"`
	BPFMapSizeRoute                    *int                  `json:"bpfMapSizeRoute,omitempty"`
	BPFPSNATPorts                      *Port                 `json:"bpfPSNATPorts,omitempty"`
	BPFPolicyDebugEnabled              *bool                 `json:"bpfPolicyDebugEnabled,omitempty"`
	BPFProfiling                       string                `json:"bpfProfiling,omitempty"`
	BPFRedirectToPeer                  string                `json:"bpfRedirectToPeer,omitempty"`

	// Dataplane: Windows.
	WindowsManageFirewallRules string `json:"windowsManageFirewallRules,omitempty"`

	// Dataplane: OpenStack support.
	EndpointReportingDelay   *Duration `json:"endpointReportingDelay,omitempty"`
	EndpointReportingEnabled *bool     `json:"endpointReportingEnabled,omitempty"`
	MetadataAddr             string    `json:"metadataAddr,omitempty"`
	MetadataPort             *int      `json:"metadataPort,omitempty"`
	OpenstackRegion          string    `json:"openstackRegion,omitempty"`
	ReportingInterval        *Duration `json:"reportingInterval,omitempty"`
	ReportingTTL             *Duration `json:"reportingTTL,omitempty"`

	// Dataplane: XDP acceleration for iptables dataplane.
	GenericXDPEnabled  *bool     `json:"genericXDPEnabled,omitempty"`
	XDPEnabled         *bool     `json:"xdpEnabled,omitempty"`
	XDPRefreshInterval *Duration `json:"xdpRefreshInterval,omitempty"`

	// Overlay: VXLAN overlay.
	VXLANEnabled *bool `json:"vxlanEnabled,omitempty"`
	VXLANMTU     *int  `json:"vxlanMTU,omitempty"`
	VXLANMTUV6   *int  `json:"vxlanMTUV6,omitempty"`
	VXLANPort    *int  `json:"vxlanPort,omitempty"`
	VXLANVNI     *int  `json:"vxlanVNI,omitempty"`

	// Overlay: IP-in-IP.
	IPIPEnabled *bool `json:"ipipEnabled,omitempty"`
	IPIPMTU     *int  `json:"ipipMTU,omitempty"`

	// Overlay: Wireguard.
	WireguardEnabled               *bool     `json:"wireguardEnabled,omitempty"`
	WireguardEnabledV6             *bool     `json:"wireguardEnabledV6,omitempty"`
	WireguardHostEncryptionEnabled *bool     `json:"wireguardHostEncryptionEnabled,omitempty"`
	WireguardInterfaceName         string    `json:"wireguardInterfaceName,omitempty"`
	WireguardInterfaceNameV6       string    `json:"wireguardInterfaceNameV6,omitempty"`
	WireguardListeningPort         *int      `json:"wireguardListeningPort,omitempty"`
	WireguardListeningPortV6       *int      `json:"wireguardListeningPortV6,omitempty"`
	WireguardMTU                   *int      `json:"wireguardMTU,omitempty"`
	WireguardMTUV6                 *int      `json:"wireguardMTUV6,omitempty"`
	WireguardKeepAlive             *Duration `json:"wireguardKeepAlive,omitempty"`
	WireguardRoutingRulePriority   *int      `json:"wireguardRoutingRulePriority,omitempty"`
	WireguardThreadingEnabled      *bool     `json:"wireguardThreadingEnabled,omitempty"`

	// Flow logs: file reports.
	FlowLogsCollectorDebugTrace  *bool     `json:"flowLogsCollectorDebugTrace,omitempty"`
	FlowLogsFlushInterval        *Duration `json:"flowLogsFlushInterval,omitempty"`
	FlowLogsGoldmaneServer       string    `json:"flowLogsGoldmaneServer,omitempty"`
	FlowLogsLocalReporter        string    `json:"flowLogsLocalReporter,omitempty"`
	FlowLogsPolicyEvaluationMode string    `json:"flowLogsPolicyEvaluationMode,omitempty"`

	// AWS integration.
	AWSSrcDstCheck string `json:"awsSrcDstCheck,omitempty"`

	// Debug/test-only (generally unsupported).
	DebugDisableLogDropping          *bool     `json:"debugDisableLogDropping,omitempty"`
	DebugHost                        string    `json:"debugHost,omitempty"`
	DebugMemoryProfilePath           string    `json:"debugMemoryProfilePath,omitempty"`
	DebugPort                        *int      `json:"debugPort,omitempty"`
	DebugSimulateCalcGraphHangAfter  *Duration `json:"debugSimulateCalcGraphHangAfter,omitempty"`
	DebugSimulateDataplaneApplyDelay *Duration `json:"debugSimulateDataplaneApplyDelay,omitempty"`
	DebugSimulateDataplaneHangAfter  *Duration `json:"debugSimulateDataplaneHangAfter,omitempty"`

	// Usage reporting.
	UsageReportingEnabled      *bool     `json:"usageReportingEnabled,omitempty"`
	UsageReportingInitialDelay *Duration `json:"usageReportingInitialDelay,omitempty"`
	UsageReportingInterval     *Duration `json:"usageReportingInterval,omitempty"`
}

// ProtoPort is a port of a protocol, with the peer's prefix or address if Net
// is set. Failsafe ports are such.
type ProtoPort struct {
	// Protocol is TCP, UDP or SCTP, in any case; empty is TCP.
	Protocol string `json:"protocol,omitempty"`
	// Port is 1 to 65535.
	Port uint16 `json:"port"`
	// Net is the prefix of the far end; empty means everybody.
	Net string `json:"net,omitempty"`
}

// HealthTimeoutOverride is the time after which a component that does not
// report counts as dead.
type HealthTimeoutOverride struct {
	// Name is the component's name.
	Name string `json:"name"`
	// Timeout is how long the component may be silent.
	Timeout Duration `json:"timeout"`
}

// RouteTableRange is Min to Max, both included.
type RouteTableRange struct {
	// Min is the first table.
	Min int `json:"min"`
	// Max is the last table.
	Max int `json:"max"`
}

// BPFConntrackTimeouts are durations as Go writes them, or "Auto".
type BPFConntrackTimeouts struct {
	// CreationGracePeriod is how long a new entry stays at least.
	CreationGracePeriod string `json:"creationGracePeriod,omitempty"`
	// TCPSynSent is how long an entry stays after the first SYN.
	TCPSynSent string `json:"tcpSynSent,omitempty"`
	// TCPEstablished is how long an idle connection stays.
	TCPEstablished string `json:"tcpEstablished,omitempty"`
	// TCPFinsSeen is how long an entry stays after both ends have closed.
	TCPFinsSeen string `json:"tcpFinsSeen,omitempty"`
	// TCPResetSeen is how long an entry stays after a reset.
	TCPResetSeen string `json:"tcpResetSeen,omitempty"`
	// UDPTimeout is how long an entry of UDP stays.
	UDPTimeout string `json:"udpTimeout,omitempty"`
	// GenericTimeout is how long an entry of another protocol stays.
	GenericTimeout string `json:"genericTimeout,omitempty"`
	// ICMPTimeout is how long an entry of ICMP stays.
	ICMPTimeout string `json:"icmpTimeout,omitempty"`
}

// Key names the object.
func (f *FelixConfiguration) Key() Key { return Key{Kind: KindFelixConfiguration, Name: f.Name} }
