# What the Database itself must and must not say for security's sake.
package database.security

import rego.v1

import data.database.lib

# A container without a limit takes its neighbours' share, one without a request is the first to be evicted. All the
# containers have what the Database says, so a field is reported once, whichever of them lacks it.
violations contains v if {
	# Nearly always the Database and all containers have all four, which is found out at once.
	complete := [1 |
		input.object.spec.resources.limits.cpu
		input.object.spec.resources.limits.memory
		input.object.spec.resources.requests.cpu
		input.object.spec.resources.requests.memory
		containers := [1 | container := input.norm.containers[_]]
		containers == [1 |
			resources := input.norm.containers[_].resources
			resources.limits.cpu
			resources.limits.memory
			resources.requests.cpu
			resources.requests.memory
		]
	]
	complete == []
	not input.settings.require.limits.value == false
	some kind, name in {"limits": "limit", "requests": "request"}
	some resource in lacking[kind]
	id := missing[kind]
	v := {
		"id": id,
		"severity": "high",
		"action": "deny",
		"path": concat(".", ["spec.resources", kind, resource]),
		"message": sprintf("there is no %s of %s, which %s requires (setting require.limits); set it, for example to %s", [name, resource, lib.required_by("limits"), examples[resource]]),
	}
}

missing := {"limits": "security.limits-missing", "requests": "security.requests-missing"}

examples := {"cpu": "500m", "memory": "1Gi"}

# Resources that the Database or one of the planned containers lacks, by kind.
lacking := {"limits": lacking_of("limits"), "requests": lacking_of("requests")}

lacking_of(kind) := in_spec | in_containers if {
	in_spec := {resource |
		some resource in ["cpu", "memory"]
		not input.object.spec.resources[kind][resource]
	}
	in_containers := {resource |
		some resource in ["cpu", "memory"]
		container := input.norm.containers[_]
		not container.resources[kind][resource]
	}
}

# The value is never quoted: it may hold a password.
violations contains v if {
	location := input.object.spec.backupPolicy.storageLocation
	holds_credentials(location)
	v := {
		"id": "security.inline-credentials",
		"severity": "critical",
		"action": "deny",
		"path": "spec.backupPolicy.storageLocation",
		"message": "the location of the backups seems to hold credentials; take them out (and change them, since they stood in clear text), and let whoever runs the operator configure access",
	}
}

# An object's key may have no `@` either (the schema says so), hence any `@` counts, wherever a password might end.
holds_credentials(location) if {
	is_string(location)
	contains(location, "@")
} else if {
	is_string(location)
	some number, part in split(location, "?")
	number > 0
	some word in ["password", "passwd", "secret", "token", "credential", "signature", "key=", "sig="]
	contains(lower(part), word)
}
