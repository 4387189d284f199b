package roller

import (
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

// touch has the target be the claim that was used last. A prune that sees less than we do fails
// on it then, and the newest stay. Its labels follow the cron's: its DataSources have them too.
func (d *decision) touch(target *goldenClaim) (done bool) {
	wanted := target.DeepCopy()
	setLabels(&wanted.ObjectMeta, d.world.cron)
	isNewest := d.lastUse(target).After(d.newestUse(target))
	if isNewest && maps.Equal(wanted.Labels, target.Labels) {
		return true
	}
	if !isNewest {
		metav1.SetMetaDataAnnotation(&wanted.ObjectMeta, golden.AnnotationLastUseTime, d.useTime(target))
	}
	d.add(step{do: touchClaim, seen: target, claim: wanted})
	return false
}

// relabel gives a claim the cron's labels; done is false while that is under way.
func (d *decision) relabel(claim *goldenClaim) (done bool) {
	wanted := claim.DeepCopy()
	setLabels(&wanted.ObjectMeta, d.world.cron)
	if maps.Equal(wanted.Labels, claim.Labels) {
		return true
	}
	d.add(step{do: touchClaim, seen: claim, claim: wanted})
	return false
}

// useTime is now, and later than every use of the other claims whatever the clock says.
func (d *decision) useTime(claim *goldenClaim) string {
	at := d.now
	if newest := d.newestUse(claim); !at.After(newest) {
		at = newest.Add(time.Nanosecond)
	}
	return at.UTC().Format(time.RFC3339Nano)
}

// point has the DataSource name a good claim; done is false while that is under way.
func (d *decision) point(target *goldenClaim) (done bool) {
	wanted, managed := dataSourceFor(d.world, target)
	switch {
	case !managed:
		return true // it is nobody's to change
	case d.dataSource == nil:
	case !d.dataSource.DeletionTimestamp.IsZero():
		return false // made anew once it is gone
	case equality.Semantic.DeepEqual(d.dataSource.Spec, wanted.Spec) && maps.Equal(d.dataSource.Labels, wanted.Labels):
		return true
	}
	s := step{do: repoint, dataSource: wanted}
	if d.dataSource == nil || !equality.Semantic.DeepEqual(d.dataSource.Spec, wanted.Spec) {
		s.tell = event{corev1.EventTypeNormal, eventRepointed, fmt.Sprintf("DataSource %s names %s now", wanted.Name, target.Name)}
	}
	d.add(s)
	return false
}

// held is the revision that the target is known to hold. One that was only polled may have the
// digest of an import and yet be another state of the file: its validators would hide that one.
func (d *decision) held(target *goldenClaim) *golden.Revision {
	switch {
	case target.revision.Digest == d.desired.Digest:
		return target.revision
	case d.isImported(d.desired):
		return d.imported
	}
	return d.desired // its import has the same bytes
}

// settle has the cron's status say that the target holds what is desired; it returns whether that
// has to be written first.
func (d *decision) settle(target *goldenClaim) (writes bool) {
	status := &d.plan.cron.Status
	named := cdiv1.DataVolumeSourcePVC{Namespace: target.Namespace, Name: target.Name}
	if status.LastImportedPVC == nil || *status.LastImportedPVC != named {
		status.LastImportedPVC = &named
		status.LastImportTimestamp = ptr.To(metav1.NewTime(d.now.Truncate(time.Second)))
	}
	status.CurrentImports = []cdiv1.ImportStatus{{DataVolumeName: target.Name, Digest: d.desired.Digest}}
	status.SourceFormat = ptr.To(cdiv1.DataImportCronSourceFormatPvc)
	metav1.SetMetaDataAnnotation(&d.plan.cron.ObjectMeta, golden.AnnotationImported, d.held(target).String())
	delete(d.plan.cron.Annotations, annotationSourceChanges)
	d.progressing(corev1.ConditionFalse, reasonNoImport, messageNoImport)
	if source, managed := dataSourceFor(d.world, target); !managed {
		d.progressing(corev1.ConditionFalse, reasonNotManaged, fmt.Sprintf(
			"DataSource %s was not made by this DataImportCron and is left alone: delete it, or label it %s=%s, and it names %s",
			source.Name, golden.LabelCron, d.world.cron.Name, target.Name))
	}
	message := messageUpToDate
	if target.revision.Digest != d.desired.Digest {
		message = messageUpToDateSameBytes
	}
	d.upToDate(corev1.ConditionTrue, reasonUpToDate, message)
	return d.changes()
}
