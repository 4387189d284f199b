package roller

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

// dataSourceFor is the cron's DataSource as it should be when it names a claim. managed is false
// when there is one of that name that no cron has made: it is nobody's to change.
func dataSourceFor(w *world, target *goldenClaim) (wanted *cdiv1.DataSource, managed bool) {
	if w.dataSource != nil {
		wanted = w.dataSource.DeepCopy()
		if wanted.Labels[golden.LabelCron] == "" {
			return wanted, false
		}
	} else {
		wanted = &cdiv1.DataSource{ObjectMeta: metav1.ObjectMeta{Namespace: w.cron.Namespace, Name: w.cron.Spec.ManagedDataSource}}
	}
	setLabels(&wanted.ObjectMeta, w.cron)
	wanted.Spec = cdiv1.DataSourceSpec{Source: cdiv1.DataSourceSource{
		PVC: &cdiv1.DataVolumeSourcePVC{Namespace: target.Namespace, Name: target.Name},
	}}
	return wanted, true
}
