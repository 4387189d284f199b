package main

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// entry is what is known about one name.
type entry struct {
	addresses []netip.Addr
	headless  bool   // a Service whose addresses are those of its endpoints
	alias     string // another name, for a Service of type ExternalName
}

// zone maps names in lower case, without the final dot, to what is known.
type zone map[string]entry

// newZone computes every name. Headless services answer with their ready
// endpoints, as the Kubernetes DNS specification 1.1.0 says.
func newZone(domain string, services []*corev1.Service, slices []*discoveryv1.EndpointSlice, hosts map[string]string) zone {
	names := zone{}
	for _, service := range services {
		name := serviceName(service.Name, service.Namespace, domain)
		switch {
		case service.Spec.Type == corev1.ServiceTypeExternalName:
			names[name] = entry{alias: strings.ToLower(strings.TrimSuffix(service.Spec.ExternalName, "."))}
		case service.Spec.ClusterIP == corev1.ClusterIPNone:
			names[name] = entry{headless: true}
		default:
			names[name] = entry{addresses: parse(service.Spec.ClusterIPs)}
		}
	}
	for _, slice := range slices {
		names.addEndpoints(slice, domain)
	}
	for name, addresses := range hosts {
		names[strings.ToLower(name)] = entry{addresses: parse(strings.FieldsFunc(addresses, separator))}
	}
	return names
}

// addEndpoints adds the endpoints of a headless service.
func (z zone) addEndpoints(slice *discoveryv1.EndpointSlice, domain string) {
	name := serviceName(slice.Labels[discoveryv1.LabelServiceName], slice.Namespace, domain)
	known := z[name]
	if !known.headless {
		return
	}
	for _, endpoint := range slice.Endpoints {
		if endpoint.Conditions.Ready != nil && !*endpoint.Conditions.Ready {
			continue
		}
		addresses := parse(endpoint.Addresses)
		known.addresses = append(known.addresses, addresses...)
		if endpoint.Hostname != nil {
			z[*endpoint.Hostname+"."+name] = entry{addresses: addresses}
		}
	}
	z[name] = known
}

func serviceName(name, namespace, domain string) string {
	return strings.ToLower(name + "." + namespace + ".svc." + domain)
}

// parse keeps what is an IP address: a wrong value makes a name without addresses.
func parse(values []string) []netip.Addr {
	var addresses []netip.Addr
	for _, value := range values {
		if address, err := netip.ParseAddr(value); err == nil {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

func separator(r rune) bool { return r == ',' || r == ' ' || r == '\n' }
