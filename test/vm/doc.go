// Command vm runs a command in a small virtual machine with Debian's stock kernel, for what the host's kernel lacks, IPVS
// above all. The guest sees the host's whole file tree (programs, tools, the checkout) below a throw-away overlay, so that
// it can write anything and change nothing. Output, error output and exit code are the command's own.
//
//	vm run [-mem 2G] [-cpus 2] [-timeout 20m] [-env NAME,...] [-share DIR]... -- COMMAND ARGS...
//	go test -exec "$PWD/bin/vm run --" -tags kernel ./test/kernel
//
// It installs the Debian packages it needs, unpacks the kernel once into a cache (default .cache/vm beside go.mod) and uses
// KVM where a probe boot shows that it works, else emulation (TCG): about 16 times slower in plain computation, good for
// behaviour, not for figures. A guest that hangs until the timeout, panics or ends without a result is a failure (exit code 125)
// with the end of its console. Emulated processors that hang, which has been seen once in some hundred runs, get a second
// machine, and the console of the first is shown. Interrupting vm kills the machine.
//
// The kernel comes from Debian's archive by its package name; on other distributions the package linux-image-cloud-amd64 does
// not exist and vm says so. Ubuntu's own kernels have IPVS, so that nothing needs this command there.
package main
