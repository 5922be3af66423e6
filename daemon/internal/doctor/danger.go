// SPDX-License-Identifier: Apache-2.0

package doctor

import "github.com/ripstop/ripstop/daemon/api"

// service is what usually is at a port. Public: it is made to be reached by
// everyone. Risky: whoever reaches it gets data or control, or it is abused to
// flood others.
type service struct {
	name          string
	public, risky bool
}

// services by protocol number and port: IANA's names where there is one, else
// the program's.
var services = map[uint8]map[uint16]service{
	6: {
		20: {"ftp-data", true, false}, 21: {"ftp", false, true}, 22: {"ssh", true, false}, 23: {"telnet", false, true}, 25: {"smtp", true, false},
		53: {"dns", true, false}, 80: {"http", true, false}, 110: {"pop3", true, false}, 111: {"rpcbind", false, true}, 135: {"msrpc", false, true},
		139: {"netbios", false, true}, 143: {"imap", true, false}, 161: {"snmp", false, true}, 179: {"bgp", false, true}, 389: {"ldap", false, true},
		443: {"https", true, false}, 445: {"smb", false, true}, 465: {"smtps", true, false}, 502: {"modbus", false, true}, 512: {"rexec", false, true},
		513: {"rlogin", false, true}, 514: {"rsh", false, true}, 587: {"submission", true, false}, 631: {"ipp", false, true}, 636: {"ldaps", false, true},
		873: {"rsync", false, true}, 993: {"imaps", true, false}, 995: {"pop3s", true, false}, 1433: {"mssql", false, true}, 1521: {"oracle", false, true},
		1883: {"mqtt", false, true}, 2049: {"nfs", false, true}, 2181: {"zookeeper", false, true}, 2375: {"docker", false, true}, 2376: {"docker-tls", false, true},
		2379: {"etcd", false, true}, 2380: {"etcd-peer", false, true}, 3306: {"mysql", false, true}, 3389: {"rdp", false, true}, 4222: {"nats", false, true},
		4369: {"epmd", false, true}, 4505: {"salt", false, true}, 4506: {"salt", false, true}, 5000: {"registry", false, true}, 5432: {"postgresql", false, true},
		5601: {"kibana", false, true}, 5672: {"amqp", false, true}, 5900: {"vnc", false, true}, 5901: {"vnc", false, true}, 5984: {"couchdb", false, true},
		5985: {"winrm", false, true}, 6000: {"x11", false, true}, 6379: {"redis", false, true}, 6443: {"kubernetes", false, true}, 7001: {"weblogic", false, true},
		7474: {"neo4j", false, true}, 8086: {"influxdb", false, true}, 8123: {"clickhouse", false, true}, 8200: {"vault", false, true}, 8500: {"consul", false, true},
		8888: {"jupyter", false, true}, 9000: {"clickhouse", false, true}, 9042: {"cassandra", false, true}, 9090: {"prometheus", false, true},
		9092: {"kafka", false, true}, 9200: {"elasticsearch", false, true}, 9300: {"elasticsearch", false, true}, 10250: {"kubelet", false, true},
		10255: {"kubelet", false, true}, 11211: {"memcached", false, true}, 15672: {"rabbitmq", false, true}, 27017: {"mongodb", false, true},
		27018: {"mongodb", false, true}, 50070: {"hdfs", false, true},
	},
	17: {
		19: {"chargen", false, true}, 53: {"dns", true, false}, 67: {"dhcp", false, true}, 68: {"dhcp-client", true, false}, 69: {"tftp", false, true},
		111: {"rpcbind", false, true}, 123: {"ntp", true, false}, 137: {"netbios", false, true}, 161: {"snmp", false, true}, 389: {"cldap", false, true},
		443: {"http3", true, false}, 500: {"ike", true, false}, 514: {"syslog", false, true}, 546: {"dhcpv6-client", true, false}, 623: {"ipmi", false, true},
		1194: {"openvpn", true, false}, 1434: {"mssql", false, true}, 1900: {"ssdp", false, true}, 3478: {"stun", true, false}, 4500: {"ike", true, false},
		4789: {"vxlan", false, true}, 5353: {"mdns", false, true}, 8125: {"statsd", false, true}, 11211: {"memcached", false, true}, 51820: {"wireguard", true, false},
	},
}

// dangerOf is how bad it is that these reach a service.
func dangerOf(s service, reach []api.Reach) api.Danger {
	everyone, someone := false, false
	for _, r := range reach {
		everyone = everyone || r.Everyone
		someone = someone || r.Who != whoNobody && r.Who != whoThisHost
	}
	switch {
	case everyone && s.risky:
		return api.DangerCritical
	case everyone && s.public, someone && s.risky:
		return api.DangerMedium
	case everyone:
		return api.DangerHigh
	case someone:
		return api.DangerLow
	}
	return api.DangerNone
}
