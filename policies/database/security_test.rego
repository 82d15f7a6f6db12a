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
	found([fixtures.drop("/children/1")]) == {"security.unplanned"}
	without("/children") == {"security.unplanned"}
	found([fixtures.put("/children", [])]) == {"security.unplanned"}
	found([fixtures.put("/children/1/kind", "Deployment")]) == {"security.unplanned"}
}

test_unreadable if {
	without(fixtures.in_pod("containers")) == {"security.unreadable"}
	found([fixtures.put("/children/1/spec", "text")]) == {"security.unplanned", "security.unreadable"}
	found([fixtures.put(fixtures.pod_path, "text")]) == {"security.unplanned", "security.unreadable"}
	found([fixtures.put("/children/-", {"kind": "StatefulSet"})]) == {"security.unreadable"}
	found([fixtures.put("/children/-", {"kind": "StatefulSet", "metadata": {"name": "b"}})]) == {"security.unreadable"}
}

test_privileged if {
	with_container("securityContext/privileged", true) == {"security.privileged"}
	with_init("securityContext/privileged", true) == {"security.privileged"}
	with_container("securityContext/privileged", "yes") == {"security.privileged"}
	with_container("securityContext/privileged", false) == set()
	"security.privileged" in with_pod("ephemeralContainers", [{"name": "debug", "securityContext": {"privileged": true}}])
}

test_privilege_escalation if {
	with_container("securityContext/allowPrivilegeEscalation", true) == {"security.privilege-escalation"}
	without(fixtures.in_init("securityContext/allowPrivilegeEscalation")) == {"security.privilege-escalation"}
	with_container("securityContext/allowPrivilegeEscalation", "false") == {"security.privilege-escalation"}
	with_container("securityContext/allowPrivilegeEscalation", false) == set()
}

test_capability_added if {
	every capability in ["ALL", "NET_ADMIN", "CAP_NET_BIND_SERVICE", "net_bind_service", 7] {
		with_container("securityContext/capabilities/add", [capability]) == {"security.capability-added"}
	}
	with_init("securityContext/capabilities/add", ["NET_BIND_SERVICE", "SYS_ADMIN"]) == {"security.capability-added"}
	with_container("securityContext/capabilities/add", "ALL") == {"security.capability-added"}
	with_container("securityContext/capabilities/add", ["NET_BIND_SERVICE"]) == set()
	with_container("securityContext/capabilities/add", []) == set()
}

test_capabilities_kept if {
	without(fixtures.in_container("securityContext/capabilities")) == {"security.capabilities-kept"}
	with_init("securityContext/capabilities/drop", ["NET_RAW"]) == {"security.capabilities-kept"}
	with_container("securityContext/capabilities/drop", {}) == {"security.capabilities-kept"}
	with_container("securityContext/capabilities/drop", ["NET_RAW", "ALL"]) == set()
}

test_root_by_number if {
	every user in [0, -1, "999", false] {
		with_pod("securityContext/runAsUser", user) == {"security.root"}
		with_container("securityContext/runAsUser", user) == {"security.root"}
		with_init("securityContext/runAsUser", user) == {"security.root"}
	}
	with_container("securityContext/runAsUser", 1000) == set()
}

# What is left: the pod's number, the pod's runAsNonRoot, the container's number, the container's runAsNonRoot.
test_root_by_default if {
	every case in [
		{"pod": {"runAsUser": 999}, "container": {}, "silent": true},
		{"pod": {"runAsNonRoot": true}, "container": {}, "silent": true},
		{"pod": {}, "container": {"runAsUser": 999}, "silent": true},
		{"pod": {}, "container": {"runAsNonRoot": true}, "silent": true},
		{"pod": {"runAsUser": 999}, "container": {"runAsNonRoot": false}, "silent": true},
		{"pod": {}, "container": {}, "silent": false},
		{"pod": {"runAsNonRoot": false}, "container": {}, "silent": false},
		{"pod": {"runAsNonRoot": "true"}, "container": {}, "silent": false},
		{"pod": {"runAsNonRoot": true}, "container": {"runAsNonRoot": false}, "silent": false},
	] {
		silent_about_root(case.pod, case.container) == case.silent
	}
}

silent_about_root(pod, container) := count(ids) == 0 if {
	ids := found([
		fixtures.drop(fixtures.in_pod("initContainers")),
		fixtures.put(fixtures.in_pod("securityContext"), object.union(pod, {"seccompProfile": {"type": "RuntimeDefault"}})),
		fixtures.put(fixtures.in_container("securityContext"), object.union(container, {
			"allowPrivilegeEscalation": false,
			"capabilities": {"drop": ["ALL"]},
			"readOnlyRootFilesystem": true,
		})),
	])
	ids - {"security.root"} == set()
}

test_host_namespace if {
	every field in ["hostNetwork", "hostPID", "hostIPC"] {
		with_pod(field, true) == {"security.host-namespace"}
		with_pod(field, "yes") == {"security.host-namespace"}
		with_pod(field, false) == set()
	}
}

test_host_path if {
	with_pod("volumes/-", {"name": "node", "hostPath": {"path": "/"}}) == {"security.host-path"}
	with_pod("volumes/-", {"hostPath": null}) == {"security.host-path"}
	with_pod("volumes", {"name": "node", "hostPath": {"path": "/"}}) == {"security.host-path"}
	with_pod("volumes/-", {"name": "more", "emptyDir": {}}) == set()
}

test_host_port if {
	with_container("ports/0/hostPort", 5432) == {"security.host-port"}
	with_init("ports/0/hostPort", "5432") == {"security.host-port"}
	with_container("ports", {"hostPort": 5432}) == {"security.host-port"}
	with_container("ports/0/hostPort", 0) == set()
}

test_seccomp if {
	without(fixtures.in_pod("securityContext/seccompProfile")) == {"security.seccomp"}
	with_pod("securityContext/seccompProfile/type", "Unconfined") == {"security.seccomp"}
	with_init("securityContext/seccompProfile", {"type": "Unconfined"}) == {"security.seccomp"}
	with_container("securityContext/seccompProfile", {"type": 1}) == {"security.seccomp"}
	with_container("securityContext/seccompProfile", {"type": "Localhost"}) == set()
	with_pod("securityContext/seccompProfile/type", "Localhost") == set()
	found([
		fixtures.drop(fixtures.in_pod("securityContext/seccompProfile")),
		fixtures.put(fixtures.in_container("securityContext/seccompProfile"), {"type": "RuntimeDefault"}),
		fixtures.put(fixtures.in_init("securityContext/seccompProfile"), {"type": "RuntimeDefault"}),
	]) == set()
}

test_writable_root if {
	without(fixtures.in_container("securityContext/readOnlyRootFilesystem")) == {"security.writable-root"}
	with_init("securityContext/readOnlyRootFilesystem", false) == {"security.writable-root"}
	with_container("securityContext/readOnlyRootFilesystem", true) == set()
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
	with_pod("volumes/-", {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}) == {"security.token"}
	with_pod("volumes/-", {"projected": {"sources": [{"configMap": {"name": "c"}}]}}) == set()
	with_pod("automountServiceAccountToken", false) == set()
}

test_messages_name_the_container if {
	messages := {violation.message | some violation in data.database.security.violations} with input as fixtures.changed([
		fixtures.put(fixtures.in_container("securityContext/privileged"), true),
		fixtures.put(fixtures.in_pod("initContainers/0/name"), 7),
		fixtures.put(fixtures.in_init("securityContext/privileged"), true),
	])
	some one in messages
	contains(one, "container \"database\" (containers) is privileged")
	some other in messages
	contains(other, "container without a name (initContainers) is privileged")
}
