package main

import (
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

func cronColumns() []apiextensionsv1.CustomResourceColumnDefinition {
	return []apiextensionsv1.CustomResourceColumnDefinition{
		{Name: "Schedule", Type: "string", JSONPath: ".spec.schedule", Description: "When the source is polled"},
		{Name: "Last Poll", Type: "date", JSONPath: ".status.lastExecutionTimestamp", Description: "Since when the source has not been polled"},
		{Name: "Up To Date", Type: "string", JSONPath: condition("UpToDate", "status"), Description: "Whether the newest revision that was found is imported"},
		{Name: "DataSource", Type: "string", JSONPath: ".spec.managedDataSource", Description: "The DataSource that names the current claim"},
		{Name: "Age", Type: "date", JSONPath: ".metadata.creationTimestamp"},
		{Name: "Reason", Type: "string", Priority: 1, JSONPath: condition("UpToDate", "reason"), Description: "Why it is up to date or not"},
		{Name: "Poll", Type: "string", Priority: 1, JSONPath: condition("SourcePolled", "reason"), Description: "How the last poll went"},
		{Name: "Poll Message", Type: "string", Priority: 1, JSONPath: condition("SourcePolled", "message"), Description: "What the last poll said"},
		{Name: "Message", Type: "string", Priority: 1, JSONPath: condition("UpToDate", "message"), Description: "What the import says"},
	}
}

func sourceColumns() []apiextensionsv1.CustomResourceColumnDefinition {
	return []apiextensionsv1.CustomResourceColumnDefinition{
		{Name: "Ready", Type: "string", JSONPath: condition("Ready", "status"), Description: "Whether it can be used"},
		{Name: "PVC", Type: "string", JSONPath: ".status.source.pvc.name", Description: "The claim that it stands for"},
		{Name: "Reason", Type: "string", JSONPath: condition("Ready", "reason"), Description: "Why it can be used or not"},
		{Name: "Age", Type: "date", JSONPath: ".metadata.creationTimestamp"},
		{Name: "Namespace Of PVC", Type: "string", Priority: 1, JSONPath: ".status.source.pvc.namespace", Description: "The namespace of that claim"},
		{Name: "Snapshot", Type: "string", Priority: 1, JSONPath: ".status.source.snapshot.name", Description: "The snapshot that it stands for"},
		{Name: "Message", Type: "string", Priority: 1, JSONPath: condition("Ready", "message"), Description: "More of why"},
	}
}

// condition is the JSONPath of a field of a condition.
func condition(kind, name string) string {
	return fmt.Sprintf(".status.conditions[?(@.type==%q)].%s", kind, name)
}
