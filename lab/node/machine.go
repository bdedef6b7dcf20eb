package node

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	cadvisor "github.com/google/cadvisor/info/v1"
	cadvisorv2 "github.com/google/cadvisor/info/v2"
	"golang.org/x/sys/unix"
)

// machine is what cAdvisor would tell the kubelet: capacity and identity, but no usage. Each node
// claims the whole machine; nothing measures or limits what its pods use.
type machine struct {
	info    cadvisor.MachineInfo
	version cadvisor.VersionInfo
}

// newMachine reads the machine's facts. bootID changes with every start of the node, which is how
// the API server's users see a power cycle.
func newMachine(name, bootID string) (machine, error) {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return machine{}, fmt.Errorf("reading memory size: %w", err)
	}
	defer file.Close()
	memory, err := memTotal(file)
	if err != nil {
		return machine{}, fmt.Errorf("reading memory size: %w", err)
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return machine{}, fmt.Errorf("reading kernel version: %w", err)
	}
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return machine{}, fmt.Errorf("reading name of the distribution: %w", err)
	}
	id := fmt.Sprintf("%x", sha256.Sum256([]byte(name)))[:32]
	return machine{
		info: cadvisor.MachineInfo{
			NumCores: runtime.NumCPU(), NumPhysicalCores: runtime.NumCPU(), NumSockets: 1,
			MemoryCapacity: memory, MachineID: id, SystemUUID: id, BootID: bootID,
		},
		version: cadvisor.VersionInfo{KernelVersion: unix.ByteSliceToString(uts.Release[:]), ContainerOsVersion: prettyName(string(release))},
	}, nil
}

// memTotal returns the size of the memory in bytes from the text of /proc/meminfo.
func memTotal(meminfo io.Reader) (uint64, error) {
	lines := bufio.NewScanner(meminfo)
	for lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) == 3 && f[0] == "MemTotal:" && f[2] == "kB" {
			kb, err := strconv.ParseUint(f[1], 10, 50)
			if err != nil {
				return 0, fmt.Errorf("parsing MemTotal: %w", err)
			}
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("no MemTotal: %w", io.ErrUnexpectedEOF)
}

// prettyName returns PRETTY_NAME of the text of os-release(5).
func prettyName(release string) string {
	for line := range strings.Lines(release) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return "Linux"
}

// Start implements the kubelet's cadvisor.Interface.
func (m machine) Start() error { return nil }

// MachineInfo implements the kubelet's cadvisor.Interface.
func (m machine) MachineInfo() (*cadvisor.MachineInfo, error) { return m.info.Clone(), nil }

// VersionInfo implements the kubelet's cadvisor.Interface.
func (m machine) VersionInfo() (*cadvisor.VersionInfo, error) {
	v := m.version
	return &v, nil
}

// ContainerInfoV2 implements the kubelet's cadvisor.Interface. The kubelet takes an empty sample for
// "unknown" and no sample for an error.
func (m machine) ContainerInfoV2(name string, _ cadvisorv2.RequestOptions) (map[string]cadvisorv2.ContainerInfo, error) {
	return map[string]cadvisorv2.ContainerInfo{name: {Stats: []*cadvisorv2.ContainerStats{{Timestamp: time.Now()}}}}, nil
}

// GetRequestedContainersInfo implements the kubelet's cadvisor.Interface.
func (m machine) GetRequestedContainersInfo(string, cadvisorv2.RequestOptions) (map[string]*cadvisor.ContainerInfo, error) {
	return map[string]*cadvisor.ContainerInfo{}, nil
}

// ImagesFsInfo implements the kubelet's cadvisor.Interface.
func (m machine) ImagesFsInfo(context.Context) (cadvisorv2.FsInfo, error) {
	return cadvisorv2.FsInfo{}, nil
}

// RootFsInfo implements the kubelet's cadvisor.Interface.
func (m machine) RootFsInfo() (cadvisorv2.FsInfo, error) { return cadvisorv2.FsInfo{}, nil }

// ContainerFsInfo implements the kubelet's cadvisor.Interface.
func (m machine) ContainerFsInfo(context.Context) (cadvisorv2.FsInfo, error) {
	return cadvisorv2.FsInfo{}, nil
}

// GetDirFsInfo implements the kubelet's cadvisor.Interface.
func (m machine) GetDirFsInfo(string) (cadvisorv2.FsInfo, error) { return cadvisorv2.FsInfo{}, nil }
