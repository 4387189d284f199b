package pki

import (
	"encoding/json"
	"fmt"
)

// Kubeconfig returns a kubeconfig file that reaches server as the identity of
// pair. Everything is inside the file, so it can be moved. It is JSON, which
// every reader of YAML understands.
func Kubeconfig(server string, authorityPEM []byte, pair Pair) ([]byte, error) {
	const name = "gild"
	type named map[string]any
	content, err := json.MarshalIndent(map[string]any{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": name,
		"clusters": []named{{"name": name, "cluster": named{
			"server":                     server,
			"certificate-authority-data": authorityPEM,
		}}},
		"users": []named{{"name": name, "user": named{
			"client-certificate-data": pair.CertificatePEM,
			"client-key-data":         pair.KeyPEM,
		}}},
		"contexts": []named{{"name": name, "context": named{"cluster": name, "user": name}}},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding a kubeconfig: %w", err)
	}
	return append(content, '\n'), nil
}
