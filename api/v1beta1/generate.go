package v1beta1

//go:generate go tool controller-gen object paths=.
//go:generate go tool controller-gen crd paths=. output:crd:dir=../../charts/fairlead/files/crds
//go:generate go run ../../docs/generate -root ../..
