package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// schemaPrefix begins the names of our FlowSchemas.
	schemaPrefix = "gild-copies-"
	leases       = "leases"
	others       = "others"
	// firstPrecedence puts them before those of the cluster, but for the ones that matter to its life.
	firstPrecedence = 500
	// priorityLevel is that of all service accounts: to be counted changes nothing else.
	priorityLevel = "workload-low"
)

// flowSchemas have the API server count the writes of the populator, and of the library, by resource: it counts the
// requests of each FlowSchema, also those that it refuses. The last one counts what no other one does.
func flowSchemas() []*flowcontrolv1.FlowSchema {
	var all []*flowcontrolv1.FlowSchema
	for i, resource := range []string{
		leases, "vmdiskimports", "persistentvolumeclaims", "persistentvolumes", "jobs", "pods", "secrets", "configmaps", "services",
		"networkpolicies", "volumesnapshots", "volumesnapshotcontents", "events", "vmdiskimages", "dataimportcrons", "datasources", others,
	} {
		resources := []string{resource, resource + "/status"}
		if resource == others {
			resources = []string{"*"}
		}
		all = append(all, &flowcontrolv1.FlowSchema{
			ObjectMeta: metav1.ObjectMeta{Name: schemaPrefix + resource},
			Spec: flowcontrolv1.FlowSchemaSpec{
				PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: priorityLevel},
				MatchingPrecedence:         int32(firstPrecedence + i),
				DistinguisherMethod:        &flowcontrolv1.FlowDistinguisherMethod{Type: flowcontrolv1.FlowDistinguisherMethodByUserType},
				Rules: []flowcontrolv1.PolicyRulesWithSubjects{{
					Subjects: []flowcontrolv1.Subject{subject(systemNamespace, account), subject(libraryNamespace, libraryAccount)},
					ResourceRules: []flowcontrolv1.ResourcePolicyRule{{
						Verbs:     []string{"create", "update", "patch", "delete", "deletecollection"},
						APIGroups: []string{"*"}, Resources: resources, Namespaces: []string{"*"}, ClusterScope: true,
					}},
				}},
			},
		})
	}
	return all
}

func subject(namespace, name string) flowcontrolv1.Subject {
	return flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindServiceAccount, ServiceAccount: &flowcontrolv1.ServiceAccountSubject{Namespace: namespace, Name: name}}
}

// writes are the writes so far, by resource.
func (c *cluster) writes(ctx context.Context) (map[string]int, error) {
	text, err := c.core.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	return parseWrites(text)
}

// parseWrites reads the counts of our FlowSchemas.
func parseWrites(metrics []byte) (map[string]int, error) {
	counts := map[string]int{}
	line := regexp.MustCompile(`(?m)^apiserver_flowcontrol_dispatched_requests_total\{flow_schema="` + schemaPrefix + `([a-z]+)",[^}]*\} (\S+)$`)
	for _, match := range line.FindAllSubmatch(metrics, -1) {
		n, err := strconv.ParseFloat(string(match[2]), 64)
		if err != nil {
			return nil, fmt.Errorf("reading the API server's metrics: %w", err)
		}
		counts[string(match[1])] += int(n)
	}
	return counts, nil
}

// since is what was written between two looks, but for the leases, which no claim causes.
func since(before, after map[string]int) map[string]int {
	written := map[string]int{}
	for resource, n := range after {
		if n -= before[resource]; n > 0 && resource != leases {
			written[resource] = n
		}
	}
	return written
}
