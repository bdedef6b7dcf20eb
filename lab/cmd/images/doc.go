// Command images packs Fairlead's static programs into OCI archives, for every architecture that was built, writes an SBOM beside
// each, and runs what it has packed for this machine out of the archive. `make images` calls it.
package main
