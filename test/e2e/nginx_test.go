//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	nginxName = "nginx"
	nginxPort = 8084
)

// nginxConfig serves the blobs of the image server beside it, whose names have no slashes.
const nginxConfig = `
daemon off;
pid /tmp/nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  default_type application/octet-stream;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  server {
    listen 8084;
    root /data;
    location ~ "^/.+/" { rewrite "^/(.+)/([^/]+)$" /$1_$2 last; }
  }
}
`

// installNginx starts nginx, a server that others wrote, beside an image server that takes its files.
func (c *cluster) installNginx(ctx context.Context) error {
	meta := metav1.ObjectMeta{Namespace: c.webNamespace(), Name: nginxName, Labels: map[string]string{"app": nginxName, runLabel: c.run}}
	pod := c.webPod(meta)
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
		Name: nginxName, Image: c.image("gild-imageserver"), Command: []string{"/usr/sbin/nginx", "-e", "stderr", "-c", "/etc/nginx/nginx.conf"},
		SecurityContext: restrictedContainer(),
		ReadinessProbe:  &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(nginxPort)}}},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "data", MountPath: "/data", ReadOnly: true}, {Name: "config", MountPath: "/etc/nginx"}, {Name: "tmp", MountPath: "/tmp"},
		},
	})
	pod.Spec.Volumes[1].Secret.SecretName = webName
	pod.Spec.Volumes = append(pod.Spec.Volumes,
		corev1.Volume{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: nginxName}}}},
		corev1.Volume{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	for _, object := range []client.Object{&corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"nginx.conf": nginxConfig}}, pod} {
		if err := c.Create(ctx, object); err != nil {
			return fmt.Errorf("starting nginx: %w", err)
		}
	}
	return c.waitPod(ctx, client.ObjectKeyFromObject(pod))
}

// Nginx makes a host name of nginx, at port 80, and returns it and its address.
func (f *fixture) Nginx(name string) (host, address string) {
	f.Helper()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.webNamespace(), Name: name, Labels: map[string]string{runLabel: f.run}},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": nginxName},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(nginxPort)}},
		},
	}
	require.NoError(f, f.Create(f.ctx, service))
	return fmt.Sprintf("%s.%s.svc", name, f.webNamespace()), service.Spec.ClusterIP
}

// PutOnNginx has nginx serve content at a path, in place of what was there. Its validators tell a
// change of the length, or of the second.
func (f *fixture) PutOnNginx(path string, content []byte) {
	f.Helper()
	_, err := f.callPod(f.ctx, client.ObjectKey{Namespace: f.webNamespace(), Name: nginxName}, http.MethodPut, "/control/blobs/"+path, content)
	require.NoError(f, err)
}
