package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group and Version name this API.
const (
	Group   = "fairlead.dev"
	Version = "v1beta1"
)

// AddToScheme makes the kinds of this package known to scheme.
func AddToScheme(scheme *runtime.Scheme) error {
	gv := schema.GroupVersion{Group: Group, Version: Version}
	scheme.AddKnownTypes(gv, &IPAddressPool{}, &IPAddressPoolList{}, &L2Advertisement{}, &L2AdvertisementList{},
		&BGPPeer{}, &BGPPeerList{}, &BGPAdvertisement{}, &BGPAdvertisementList{}, &BFDProfile{}, &BFDProfileList{},
		&Community{}, &CommunityList{}, &SpeakerStatus{}, &SpeakerStatusList{})
	metav1.AddToGroupVersion(scheme, gv)
	return nil
}
