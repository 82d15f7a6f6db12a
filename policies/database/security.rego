# What the planned pod may do to its node and to its neighbours.
#
# Rules read what `norm` has of the StatefulSet that the planner would make, so they judge what will run. That is the
# operator's doing, hence `path` is only `spec`, and the way out is to tell whoever runs the operator. A value of a wrong
# type counts as a violation: each rule asks for the one good value.
package database.security

import rego.v1

import data.database.lib

violations contains v if {
	planned := [1 | input.norm.pods[_]; input.norm.containers[_]]
	planned == []
	v := {
		"id": "security.unplanned",
		"severity": "critical",
		"action": "deny",
		"path": "spec",
		"message": "no pod could be planned for this Database, so nothing shows that it would be safe; correct what else is reported about spec, and try again",
	}
}

# One StatefulSet that can be read must not cover for another that cannot.
violations contains v if {
	pod := input.norm.pods[_]
	not pod.readable == true
	v := {
		"id": "security.unreadable",
		"severity": "critical",
		"action": "deny",
		"path": "spec",
		"message": sprintf("the planned StatefulSet %s has no pod template with containers; %s", [text(pod, "set"), remedy]),
	}
}

violations contains v if {
	container := input.norm.containers[_]
	container.securityContext.privileged != false
	v := {
		"id": "security.privileged",
		"severity": "critical",
		"action": "deny",
		"path": "spec",
		"message": sprintf("%s is privileged, which gives it the whole node; %s", [title(container), remedy]),
	}
}

violations contains v if {
	container := input.norm.containers[_]
	not container.securityContext.allowPrivilegeEscalation == false
	v := {
		"id": "security.privilege-escalation",
		"severity": "high",
		"action": "deny",
		"path": "spec",
		"message": sprintf("%s does not set allowPrivilegeEscalation to false; %s", [title(container), remedy]),
	}
}

# NET_BIND_SERVICE, to listen on a port below 1024, is the one capability that takes nothing from others.
violations contains v if {
	container := input.norm.containers[_]
	capability := container.securityContext.capabilities.add[_]
	capability != "NET_BIND_SERVICE"
	v := {
		"id": "security.capability-added",
		"severity": "high",
		"action": "deny",
		"path": "spec",
		"message": sprintf("%s adds the capability %s; only NET_BIND_SERVICE is allowed; %s", [title(container), lib.quote(capability), remedy]),
	}
}

violations contains v if {
	container := input.norm.containers[_]
	not container.securityContext.capabilities.drop == ["ALL"]
	not drops_all(container)
	v := {
		"id": "security.capabilities-kept",
		"severity": "medium",
		"action": "deny",
		"path": "spec",
		"message": sprintf("%s does not drop ALL capabilities; %s", [title(container), remedy]),
	}
}

drops_all(container) if {
	capability := container.securityContext.capabilities.drop[_]
	capability == "ALL"
}

violations contains v if {
	pod := input.norm.pods[_]
	user := pod.securityContext.runAsUser
	ordinary := [1 | user > 0; user < ""]
	ordinary == []
	v := {
		"id": "security.root",
		"severity": "high",
		"action": "deny",
		"path": "spec",
		"message": sprintf("the planned pod has runAsUser %s, but must have a number above 0; %s", [lib.quote(user), remedy]),
	}
}

violations contains v if {
	container := input.norm.containers[_]
	user := container.securityContext.runAsUser
	ordinary := [1 | user > 0; user < ""]
	ordinary == []
	v := {
		"id": "security.root",
		"severity": "high",
		"action": "deny",
		"path": "spec",
		"message": sprintf("%s has runAsUser %s, but must have a number above 0; %s", [title(container), lib.quote(user), remedy]),
	}
}

# Without any user number (a bad one is reported above) the image's own user counts, which may be root, unless
# runAsNonRoot forbids it.
violations contains v if {
	container := input.norm.containers[_]
	not container.podSecurityContext.runAsUser
	not container.securityContext.runAsUser
	not forbids_root(container)
	v := {
		"id": "security.root",
		"severity": "high",
		"action": "deny",
		"path": "spec",
		"message": sprintf("%s has neither runAsNonRoot nor a runAsUser above 0, so it may run as root; %s", [title(container), remedy]),
	}
}

# The container's own word wins over its pod's.
forbids_root(container) if {
	container.securityContext.runAsNonRoot == true
} else if {
	container.podSecurityContext.runAsNonRoot == true
	not container.securityContext.runAsNonRoot == false
}

violations contains v if {
	pod := input.norm.pods[_]
	some field in ["hostNetwork", "hostPID", "hostIPC"]
	pod[field] != false
	v := {
		"id": "security.host-namespace",
		"severity": "critical",
		"action": "deny",
		"path": "spec",
		"message": sprintf("the planned pod uses its node's own namespace (%s); %s", [field, remedy]),
	}
}

violations contains v if {
	pod := input.norm.pods[_]
	volume := pod.hostPaths[_]
	volume.hostPath != false
	v := {
		"id": "security.host-path",
		"severity": "critical",
		"action": "deny",
		"path": "spec",
		"message": sprintf("the planned pod mounts a directory of its node (volume %s); %s", [text(volume, "name"), remedy]),
	}
}

violations contains v if {
	container := input.norm.containers[_]
	port := container.ports[_]
	port.hostPort != 0
	v := {
		"id": "security.host-port",
		"severity": "high",
		"action": "deny",
		"path": "spec",
		"message": sprintf("%s takes port %s of its node; %s", [title(container), lib.quote(port.hostPort), remedy]),
	}
}

# The container's own profile wins over its pod's.
violations contains v if {
	container := input.norm.containers[_]
	profile := container.securityContext.seccompProfile
	not profile.type == "RuntimeDefault"
	not profile.type == "Localhost"
	v := {
		"id": "security.seccomp",
		"severity": "medium",
		"action": "deny",
		"path": "spec",
		"message": sprintf("%s has no seccomp profile RuntimeDefault or Localhost; %s", [title(container), remedy]),
	}
}

violations contains v if {
	container := input.norm.containers[_]
	not container.securityContext.seccompProfile
	not container.podSecurityContext.seccompProfile.type == "RuntimeDefault"
	not container.podSecurityContext.seccompProfile.type == "Localhost"
	v := {
		"id": "security.seccomp",
		"severity": "medium",
		"action": "deny",
		"path": "spec",
		"message": sprintf("%s has no seccomp profile RuntimeDefault or Localhost; %s", [title(container), remedy]),
	}
}

violations contains v if {
	container := input.norm.containers[_]
	not container.securityContext.readOnlyRootFilesystem == true
	v := {
		"id": "security.writable-root",
		"severity": "low",
		"action": "warn",
		"path": "spec",
		"message": sprintf("%s can write to its image's file system (readOnlyRootFilesystem is not true); %s", [title(container), remedy]),
	}
}

violations contains v if {
	pod := input.norm.pods[_]
	not pod.automountServiceAccountToken == false
	v := {
		"id": "security.token",
		"severity": "medium",
		"action": "deny",
		"path": "spec",
		"message": sprintf("the planned pod mounts a token for the API server (automountServiceAccountToken is not false); %s", [remedy]),
	}
}

violations contains v if {
	pod := input.norm.pods[_]
	volume := pod.projected[_]
	volume.source.serviceAccountToken != false
	v := {
		"id": "security.token",
		"severity": "medium",
		"action": "deny",
		"path": "spec",
		"message": sprintf("the planned pod mounts a token for the API server (volume %s); %s", [text(volume, "name"), remedy]),
	}
}

remedy := "the operator made this, so report it to whoever runs the operator"

title(container) := sprintf("the planned container %s (%s)", [text(container, "name"), container.kind])

text(object, field) := words if {
	is_string(object[field])
	words := lib.quote(object[field])
} else := "without a name"
