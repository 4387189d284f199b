package populator

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/utils/ptr"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/credentials"
	"github.com/gild-project/gild/pkg/importer"
)

// attempt is all that the Job of one attempt is made from.
type attempt struct {
	number    int32
	importUID types.UID
	spec      v1alpha1.VMDiskImportSpec
	// claim is the user's claim, target is PVC'.
	claim, target *corev1.PersistentVolumeClaim
	credentials   *credentials.Credentials
	// complete has the importer finish a restored volume, on which the disk ends at diskEnd bytes. With a source in
	// spec it proves first that the source is at the pin.
	complete bool
	diskEnd  int64
	// sourceFormat is what the source must have; empty when that is to be found out.
	sourceFormat string
	// host is what the limit per host counts; empty for that of the source.
	host string
	// scratch gives the importer room for a whole image.
	scratch bool
	// image of the importer, and the operator's template as JSON, empty for none.
	image    string
	template []byte
}

// options are the importer's flags for an attempt.
func (a *attempt) options() importer.Options {
	var o importer.Options
	o.BindFlags(pflag.NewFlagSet(importerContainer, pflag.ContinueOnError)) // for the defaults
	o.Source = sourceURL(&a.spec.Source)
	o.Target = targetDirectory
	o.TargetFormat = cmp.Or(string(a.spec.Format), importer.FormatRaw)
	o.Checksum = a.spec.Checksum
	o.Digest = a.spec.RecordDigest
	o.Progress = importer.ProgressJSON
	o.TerminationLog = terminationLog
	if isBlock(a.claim) {
		o.Target = targetDevice
	}
	if a.scratch || isRootfs(&a.spec.Source) && !a.complete {
		o.ScratchDir = scratchDir
	}
	if a.spec.Size != nil {
		o.TargetSize = importer.Size(a.spec.Size.Value())
	}
	if pulledByNode(&a.spec.Source) {
		o.Source = "file://" + diskDirectory
		return o // the node has the credentials
	}
	o.SourceFormat = cmp.Or(a.sourceFormat, o.SourceFormat)
	if a.spec.Source.Blank != nil && a.sourceFormat == "" {
		o.SourceFormat = importer.FormatRaw
	}
	if pin := a.spec.Pin; pin != nil {
		o.Pin = importer.Pin{ETag: pin.ETag, LastModified: pin.LastModified, Length: pin.Length, Digest: pin.Digest}
	}
	if registry := a.spec.Source.Registry; registry != nil {
		o.Content = cmp.Or(string(registry.Content), importer.ContentAuto)
	}
	if architecture := architectureOf(&a.spec.Source); architecture != "" {
		o.Platform = "linux/" + architecture
	}
	if len(a.credentials.Secret) > 0 {
		o.SecretDir = secretDirectory
	}
	if a.credentials.CA != nil {
		o.CADir = caDirectory
	}
	return o
}

// args is the importer's command line for an attempt.
func (a *attempt) args() []string {
	if !a.complete {
		return a.options().Args()
	}
	var o importer.CompleteOptions
	o.BindFlags(pflag.NewFlagSet(importerContainer, pflag.ContinueOnError)) // for the defaults
	o.Target, o.TerminationLog = targetDirectory, terminationLog
	if a.asks() {
		from := a.options()
		o.Source, o.Platform, o.Pin, o.SecretDir, o.CADir = from.Source, from.Platform, from.Pin, from.SecretDir, from.CADir
	}
	if isBlock(a.claim) {
		o.Target, o.DiskEnd = targetDevice, importer.Size(a.diskEnd)
	}
	return o.Args()
}

// asks reports whether the importer goes to the source.
func (a *attempt) asks() bool { return !a.complete || hasSource(&a.spec) }

// describe tells the user of the claim what begins.
func (a *attempt) describe() string {
	if a.complete {
		return fmt.Sprintf("attempt %d: completing the restored volume of %s", a.number, describeSource(&a.spec.ImageRef))
	}
	if a.sourceFormat != "" {
		return fmt.Sprintf("attempt %d: copying %s", a.number, a.host)
	}
	if a.scratch {
		return fmt.Sprintf("attempt %d, with scratch space: importing %s", a.number, describeSource(&a.spec.ImageRef))
	}
	return fmt.Sprintf("attempt %d: importing %s", a.number, describeSource(&a.spec.ImageRef))
}

// describeSource names what an import was made from.
func describeSource(ref *v1alpha1.ImageReference) string {
	text := cmp.Or(ref.Kind, kindImage) + " " + ref.Name
	if ref.Revision != "" {
		text += ", revision " + ref.Revision
	}
	return text
}

// importJob is the Job of one attempt: one pod, never retried by the Job itself. Only the
// import controller decides about a next attempt.
func importJob(a *attempt) (*batchv1.Job, error) {
	template, err := podTemplate(a)
	if err != nil {
		return nil, err
	}
	meta := metav1.ObjectMeta{
		Namespace:   a.target.Namespace,
		Name:        jobName(a.claim.UID, a.number),
		Labels:      attemptLabels(a),
		Annotations: attemptAnnotations(a),
	}
	return &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{
		BackoffLimit:         ptr.To[int32](0),
		PodReplacementPolicy: ptr.To(batchv1.Failed),
		Template:             *template,
	}}, nil
}

func attemptLabels(a *attempt) map[string]string {
	labels := importLabels(a.claim.UID)
	labels[labelImportUID] = string(a.importUID)
	labels[labelAttempt] = strconv.FormatInt(int64(a.number), 10)
	return labels
}

func attemptAnnotations(a *attempt) map[string]string {
	return map[string]string{
		annotationClaim:     a.claim.Namespace + "/" + a.claim.Name,
		annotationTargetUID: string(a.target.UID),
		annotationHost:      cmp.Or(a.host, hostOf(&a.spec.Source)),
	}
}

// podTemplate merges the operator's template into ours. What the import's safety hangs on is
// set again after the merge: arguments, volumes, the architecture, labels, our finalizer, no token, no restarts.
func podTemplate(a *attempt) (*corev1.PodTemplateSpec, error) {
	ours := ourTemplate(a)
	if len(a.template) == 0 {
		return ours, nil
	}
	base, err := json.Marshal(ours)
	if err != nil {
		return nil, fmt.Errorf("encoding the importer's pod: %w", err)
	}
	merged, err := strategicpatch.StrategicMergePatch(base, a.template, &corev1.PodTemplateSpec{})
	if err != nil {
		return nil, fmt.Errorf("merging --job-template: %w", err)
	}
	result := &corev1.PodTemplateSpec{}
	if err := json.Unmarshal(merged, result); err != nil {
		return nil, fmt.Errorf("merging --job-template: %w", err)
	}
	if result.Labels == nil {
		result.Labels = map[string]string{}
	}
	if result.Annotations == nil {
		result.Annotations = map[string]string{}
	}
	maps.Copy(result.Labels, ours.Labels)
	maps.Copy(result.Annotations, ours.Annotations)
	result.Finalizers = ours.Finalizers
	result.Spec.RestartPolicy = ours.Spec.RestartPolicy
	result.Spec.AutomountServiceAccountToken = ours.Spec.AutomountServiceAccountToken
	if result.Spec.NodeSelector == nil {
		result.Spec.NodeSelector = map[string]string{}
	}
	maps.Copy(result.Spec.NodeSelector, ours.Spec.NodeSelector)
	for i := range result.Spec.Containers {
		if c := &result.Spec.Containers[i]; c.Name == importerContainer {
			c.Command, c.Args = nil, ours.Spec.Containers[0].Args
			c.VolumeDevices = ours.Spec.Containers[0].VolumeDevices
			c.VolumeMounts = mountsOver(ours.Spec.Containers[0].VolumeMounts, c.VolumeMounts)
		}
	}
	result.Spec.Volumes = volumesOver(ours.Spec.Volumes, result.Spec.Volumes)
	return result, nil
}

// mountsOver keeps our mounts and of the operator's those at other places: a disk written to a
// directory mounted over the target would be lost.
func mountsOver(ours, merged []corev1.VolumeMount) []corev1.VolumeMount {
	return append(slices.Clone(ours), slices.DeleteFunc(slices.Clone(merged), func(m corev1.VolumeMount) bool {
		return slices.ContainsFunc(ours, func(our corev1.VolumeMount) bool {
			return m.MountPath == our.MountPath || strings.HasPrefix(m.MountPath, our.MountPath+"/")
		})
	})...)
}

// volumesOver keeps our volumes and of the operator's those of other names.
func volumesOver(ours, merged []corev1.Volume) []corev1.Volume {
	return append(slices.Clone(ours), slices.DeleteFunc(slices.Clone(merged), func(v corev1.Volume) bool {
		return slices.ContainsFunc(ours, func(our corev1.Volume) bool { return v.Name == our.Name })
	})...)
}

// literal keeps the kubelet from expanding $(NAME) in arguments: a user's URL could name a variable of
// --job-template, such as a proxy with its password, and have it sent to a host of his own.
func literal(args []string) []string {
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "$", "$$")
	}
	return args
}

// checkTemplate refuses a template that cannot be merged, before an import needs it.
func checkTemplate(template []byte) error {
	claim := &corev1.PersistentVolumeClaim{}
	_, err := podTemplate(&attempt{
		spec:  v1alpha1.VMDiskImportSpec{ImageSpec: v1alpha1.ImageSpec{Source: v1alpha1.DiskSource{HTTP: &v1alpha1.HTTPSource{}}}},
		claim: claim, target: claim, credentials: &credentials.Credentials{}, template: template,
	})
	return err
}
