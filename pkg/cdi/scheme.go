package cdi

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

// AddToScheme registers the kinds that Gild serves, and no other of CDI's, with scheme. Of the kind CDI it
// only ever asks whether there is one.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(cdiv1.SchemeGroupVersion,
		&cdiv1.DataImportCron{}, &cdiv1.DataImportCronList{},
		&cdiv1.DataSource{}, &cdiv1.DataSourceList{},
		&cdiv1.DataVolume{}, &cdiv1.DataVolumeList{},
		&cdiv1.StorageProfile{}, &cdiv1.StorageProfileList{},
		&cdiv1.CDIConfig{}, &cdiv1.CDIConfigList{})
	metav1.AddToGroupVersion(scheme, cdiv1.SchemeGroupVersion)
	return nil
}
