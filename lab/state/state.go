package state

import (
	"path/filepath"
)

// Dir is the state directory of one lab.
type Dir string

// Options is the lab's config.Lab as JSON.
func (d Dir) Options() string { return d.file("lab.json") }

// ControlSocket is the supervisor's Unix socket.
func (d Dir) ControlSocket() string { return d.file("control.sock") }

// Kubeconfig is the administrator's, for use on the machine itself.
func (d Dir) Kubeconfig() string { return d.file("kubeconfig") }

// ComponentKubeconfig is for use inside the lab.
func (d Dir) ComponentKubeconfig(component string) string {
	return d.file("pki", component+".kubeconfig")
}

// Cert is the certificate called name; "ca" is the cluster's authority.
func (d Dir) Cert(name string) string { return d.file("pki", name+".crt") }

// Key is the private key of the certificate called name.
func (d Dir) Key(name string) string { return d.file("pki", name+".key") }

// PKI holds certificates, keys and the components' kubeconfigs.
func (d Dir) PKI() string { return d.file("pki") }

// Etcd is etcd's database.
func (d Dir) Etcd() string { return d.file("etcd") }

// Logs holds one file per component of the control plane, one directory per member.
func (d Dir) Logs() string { return d.file("logs") }

// Log is the log of a component of the control plane, or of the supervisor.
func (d Dir) Log(component string) string { return d.file("logs", component+".log") }

// MemberLogs holds the logs of a node's, the router's or the client's daemons.
func (d Dir) MemberLogs(member string) string { return d.file("logs", member) }

// Member holds the configuration and data of a node, the router or the client.
func (d Dir) Member(member string) string { return d.file("members", member) }

func (d Dir) supervisor() string { return d.file("supervisor.pid") }

func (d Dir) file(elements ...string) string {
	return filepath.Join(append([]string{string(d)}, elements...)...)
}
