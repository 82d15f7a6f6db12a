package database.security_test

import rego.v1

import data.database.fixtures_test as fixtures

# Ids of what is found after these changes to the good input.
found(changes) := ids if {
	ids := {violation.id | some violation in data.database.security.violations} with input as fixtures.changed(changes)
}

# The same for one field of the pod, of its container, of its init container.
with_pod(field, value) := found([fixtures.put(fixtures.in_pod(field), value)])

with_container(field, value) := found([fixtures.put(fixtures.in_container(field), value)])

with_init(field, value) := found([fixtures.put(fixtures.in_init(field), value)])

without(path) := found([fixtures.drop(path)])

test_good_is_silent if found([]) == set()

test_unplanned if {
	without("/norm/containers") == {"security.unplanned"}
	without("/norm/pods") == {"security.unplanned"}
}

test_nothing_planned if {
	found([fixtures.put("/norm/containers", [])]) == {"security.unplanned"}
	found([fixtures.put("/norm/pods", [])]) == {"security.unplanned"}
}

test_unreadable if {
	with_pod("readable", false) == {"security.unreadable"}
	without(fixtures.in_pod("readable")) == {"security.unreadable"}
}

test_perhaps_readable if with_pod("readable", "true") == {"security.unreadable"}

test_unreadable_beside_another if {
	other := {"readable": false, "automountServiceAccountToken": false}
	found([fixtures.put("/norm/pods/-", other)]) == {"security.unreadable"}
	found([fixtures.put("/norm/pods/-", object.union(other, {"set": "b"}))]) == {"security.unreadable"}
}

test_privileged if {
	with_container("securityContext/privileged", true) == {"security.privileged"}
	with_container("securityContext/privileged", false) == set()
}

test_privileged_of_another_type if with_container("securityContext/privileged", "yes") == {"security.privileged"}

test_privileged_beside_the_database if {
	with_init("securityContext/privileged", true) == {"security.privileged"}
	other := {"name": "debug", "kind": "ephemeralContainers", "securityContext": {"privileged": true}}
	"security.privileged" in found([fixtures.put("/norm/containers/-", other)])
}

test_privilege_escalation if {
	with_container("securityContext/allowPrivilegeEscalation", true) == {"security.privilege-escalation"}
	without(fixtures.in_init("securityContext/allowPrivilegeEscalation")) == {"security.privilege-escalation"}
}

test_privilege_escalation_of_another_type if {
	with_container("securityContext/allowPrivilegeEscalation", "false") == {"security.privilege-escalation"}
}

added(capabilities) := with_container("securityContext/capabilities/add", capabilities)

test_capability_added if {
	added(["ALL"]) == {"security.capability-added"}
	added(["NET_BIND_SERVICE", "SYS_ADMIN"]) == {"security.capability-added"}
}

test_capability_added_beside_the_database if {
	with_init("securityContext/capabilities/add", ["NET_ADMIN"]) == {"security.capability-added"}
}

test_capability_that_looks_alike if {
	added(["CAP_NET_BIND_SERVICE"]) == {"security.capability-added"}
	added(["net_bind_service"]) == {"security.capability-added"}
}

test_capability_of_another_type if {
	added([7]) == {"security.capability-added"}
	added([["ALL"]]) == {"security.capability-added"}
}

test_capability_that_may_be_added if {
	added(["NET_BIND_SERVICE"]) == set()
	added([]) == set()
}

test_capabilities_kept if {
	without(fixtures.in_container("securityContext/capabilities")) == {"security.capabilities-kept"}
	with_init("securityContext/capabilities/drop", ["NET_RAW"]) == {"security.capabilities-kept"}
}

test_capabilities_dropped if {
	with_container("securityContext/capabilities/drop", {}) == {"security.capabilities-kept"}
	with_container("securityContext/capabilities/drop", ["NET_RAW", "ALL"]) == set()
}

root := {"security.root"}

test_root_by_number_of_the_pod if {
	with_pod("securityContext/runAsUser", 0) == root
	with_pod("securityContext/runAsUser", -1) == root
}

test_root_by_number_of_a_container if {
	with_container("securityContext/runAsUser", 0) == root
	with_init("securityContext/runAsUser", -1) == root
}

test_another_user_than_root if with_container("securityContext/runAsUser", 1000) == set()

test_root_by_something_that_is_no_number if {
	with_pod("securityContext/runAsUser", "999") == root
	with_container("securityContext/runAsUser", "999") == root
	with_init("securityContext/runAsUser", false) == root
}

# What is left: the pod's number, the pod's runAsNonRoot, the container's number, the container's runAsNonRoot.
root_with(pod, container) := found([
	fixtures.drop("/norm/containers/1"),
	fixtures.put(fixtures.in_pod("securityContext"), pod),
	fixtures.put(fixtures.in_container("podSecurityContext"), object.union(pod, {"seccompProfile": {"type": "RuntimeDefault"}})),
	fixtures.put(fixtures.in_container("securityContext"), object.union(container, {
		"allowPrivilegeEscalation": false,
		"capabilities": {"drop": ["ALL"]},
		"readOnlyRootFilesystem": true,
	})),
])

test_no_root_by_the_pod if {
	root_with({"runAsUser": 999}, {}) == set()
	root_with({"runAsNonRoot": true}, {}) == set()
}

test_no_root_by_the_pod_whatever_its_container_says if root_with({"runAsUser": 999}, {"runAsNonRoot": false}) == set()

test_no_root_by_the_container if {
	root_with({}, {"runAsUser": 999}) == set()
	root_with({}, {"runAsNonRoot": true}) == set()
}

test_root_by_default if {
	root_with({}, {}) == root
	root_with({"runAsNonRoot": "true"}, {}) == root
}

test_root_by_permission if {
	root_with({"runAsNonRoot": false}, {}) == root
	root_with({"runAsNonRoot": true}, {"runAsNonRoot": false}) == root
}

test_host_namespace if {
	every field in ["hostNetwork", "hostPID", "hostIPC"] {
		with_pod(field, true) == {"security.host-namespace"}
	}
}

test_host_namespace_of_another_type if with_pod("hostNetwork", "yes") == {"security.host-namespace"}

test_no_host_namespace if {
	found([fixtures.put(fixtures.in_pod("hostNetwork"), false), fixtures.put(fixtures.in_pod("hostPID"), false)]) == set()
}

test_host_path if {
	with_pod("hostPaths/-", {"name": "node", "hostPath": {"path": "/"}}) == {"security.host-path"}
	with_pod("hostPaths/-", {"hostPath": null}) == {"security.host-path"}
}

test_host_port if {
	with_container("ports/0/hostPort", 5432) == {"security.host-port"}
	with_container("ports/0/hostPort", 0) == set()
}

test_host_port_of_another_form if {
	with_init("ports/0/hostPort", "5432") == {"security.host-port"}
	with_container("ports/-", {"hostPort": []}) == {"security.host-port"}
}

test_seccomp_of_the_pod if {
	found(fixtures.in_pod_security(fixtures.drop("/seccompProfile"))) == {"security.seccomp"}
	found(fixtures.in_pod_security(fixtures.put("/seccompProfile/type", "Unconfined"))) == {"security.seccomp"}
}

test_seccomp_by_a_profile_of_the_node if {
	found(fixtures.in_pod_security(fixtures.put("/seccompProfile/type", "Localhost"))) == set()
	with_container("securityContext/seccompProfile", {"type": "Localhost"}) == set()
}

test_seccomp_of_a_container if {
	with_init("securityContext/seccompProfile", {"type": "Unconfined"}) == {"security.seccomp"}
	with_container("securityContext/seccompProfile", {"type": 1}) == {"security.seccomp"}
}

test_seccomp_of_the_containers_alone if {
	found(array.concat(fixtures.in_pod_security(fixtures.drop("/seccompProfile")), [
		fixtures.put(fixtures.in_container("securityContext/seccompProfile"), {"type": "RuntimeDefault"}),
		fixtures.put(fixtures.in_init("securityContext/seccompProfile"), {"type": "RuntimeDefault"}),
	])) == set()
}

test_writable_root if {
	without(fixtures.in_container("securityContext/readOnlyRootFilesystem")) == {"security.writable-root"}
	with_init("securityContext/readOnlyRootFilesystem", false) == {"security.writable-root"}
}

test_only_writable_root_is_a_warning if {
	changes := [
		fixtures.put(fixtures.in_container("securityContext"), {}),
		fixtures.put(fixtures.in_pod("hostNetwork"), true),
	]
	warnings := {violation.id |
		some violation in data.database.security.violations
		violation.action != "deny"
	} with input as fixtures.changed(changes)
	warnings == {"security.writable-root"}
}

test_token if {
	without(fixtures.in_pod("automountServiceAccountToken")) == {"security.token"}
	with_pod("automountServiceAccountToken", true) == {"security.token"}
}

test_token_of_a_volume if {
	with_pod("projected/-", {"name": "t", "source": {"serviceAccountToken": {"path": "t"}}}) == {"security.token"}
	with_pod("projected/-", {"source": {"configMap": {"name": "c"}}}) == set()
}

test_messages_name_the_container if {
	messages := {violation.message | some violation in data.database.security.violations} with input as fixtures.changed([
		fixtures.put(fixtures.in_container("securityContext/privileged"), true),
		fixtures.put(fixtures.in_init("name"), 7),
		fixtures.put(fixtures.in_init("securityContext/privileged"), true),
	])
	some one in messages
	contains(one, "container \"database\" (containers) is privileged")
	some other in messages
	contains(other, "container without a name (initContainers) is privileged")
}
