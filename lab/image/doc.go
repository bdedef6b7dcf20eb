// Package image writes container images without a container runtime: an OCI image layout (image-spec 1.1) in one tar file, which
// ctr, podman, skopeo and crane read. An image has one layer of a few files and exists for several architectures. The same input
// gives the same bytes: times are given, names sorted, nothing of the machine gets in.
//
// [Image.Write] writes, [Open] reads back and checks every digest, [SBOM] tells what Go modules a program is made of, as SPDX 2.3.
// lab/cmd/images is the command. It is in this module because the types of the image-spec are.
package image
