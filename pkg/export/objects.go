package export

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/gild-project/gild/pkg/restricted"
)

// Where things are in an exporter pod.
const (
	device       = "/dev/target"
	directory    = "/target"
	mountedFiles = "/run/gild/export"
)

// newPod is the pod of an export: it has the volume and the Secret, and reaches nothing.
func newPod(spec Spec, try int) *corev1.Pod {
	meta := metaOf(spec)
	meta.Annotations = map[string]string{annotationTry: strconv.Itoa(try)}
	meta.Labels[labelSource] = string(spec.ClaimUID)
	target := directory
	exporter := corev1.Container{
		Name:  container,
		Image: spec.Image,
		Ports: []corev1.ContainerPort{{Name: portName, ContainerPort: port, Protocol: corev1.ProtocolTCP}},
		// It says in one line of its log why it ends.
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("64Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("128Mi")},
		},
		ReadinessProbe: &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString(portName), Scheme: corev1.URISchemeHTTPS}},
			PeriodSeconds: 2,
		},
		SecurityContext: restricted.Container(),
		VolumeMounts:    []corev1.VolumeMount{{Name: "secret", MountPath: mountedFiles, ReadOnly: true}},
	}
	if spec.ReadOnlyDevice {
		target = device
		exporter.VolumeDevices = []corev1.VolumeDevice{{Name: "target", DevicePath: device}}
	} else {
		exporter.VolumeMounts = append(exporter.VolumeMounts, corev1.VolumeMount{Name: "target", MountPath: directory, ReadOnly: true})
	}
	exporter.Args = []string{
		"serve",
		"--target=" + target,
		"--listen=:" + strconv.Itoa(port),
		"--tls-cert=" + mountedFiles + "/" + keyCertificate,
		"--tls-key=" + mountedFiles + "/" + keyKey,
		"--token-file=" + mountedFiles + "/" + keyToken,
		"--revision=" + literal(spec.Revision),
	}
	return &corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever,
		// Its certificate is good for no longer.
		ActiveDeadlineSeconds:         ptr.To(int64(validity.Seconds())),
		AutomountServiceAccountToken:  ptr.To(false),
		EnableServiceLinks:            ptr.To(false),
		TerminationGracePeriodSeconds: ptr.To[int64](10),
		SecurityContext:               restricted.Pod(),
		Affinity:                      besideOthers(spec.ClaimUID),
		Containers:                    []corev1.Container{exporter},
		Volumes: []corev1.Volume{
			{Name: "target", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: spec.Claim.Name, ReadOnly: true}}},
			{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: meta.Name, DefaultMode: ptr.To[int32](0o440)}}},
		},
	}}
}

// besideOthers prefers the node that has the volume already: most volumes can be on one node only, and the scheduler
// does not know.
func besideOthers(claim types.UID) *corev1.Affinity {
	return &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
		PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 100, PodAffinityTerm: corev1.PodAffinityTerm{
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{labelSource: string(claim)}}, TopologyKey: corev1.LabelHostname,
		}}},
	}}
}

// newService gives the pod a name. It needs no address of its own.
func newService(spec Spec) *corev1.Service {
	return &corev1.Service{ObjectMeta: metaOf(spec), Spec: corev1.ServiceSpec{
		ClusterIP: corev1.ClusterIPNone,
		Selector:  selector(spec.ID),
		Ports:     []corev1.ServicePort{{Name: portName, Port: port, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString(portName)}},
	}}
}

// newPolicy lets the importer pods of the system namespace in, and nothing out.
func newPolicy(spec Spec, systemNamespace string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: metaOf(spec), Spec: networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: selector(spec.ID)},
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		Ingress: []networkingv1.NetworkPolicyIngressRule{{
			From: []networkingv1.NetworkPolicyPeer{{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: systemNamespace}},
				PodSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{labelName: "gild", labelComponent: componentImporter}},
			}},
			Ports: []networkingv1.NetworkPolicyPort{{Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To(intstr.FromInt32(port))}},
		}},
	}}
}
