# What the Database itself must and must not say for security's sake.
package database.security

import rego.v1

import data.database.lib

# A container without a limit takes its neighbours' share, one without a request is the first to be evicted. All the
# containers have what the Database says, so a field is reported once, whichever of them lacks it.
violations contains v if {
	not data.database.security.complete
	some resource in missing.limits
	not input.settings.require.limits.value == false
	v := {
		"id": "security.limits-missing",
		"severity": "high",
		"action": "deny",
		"path": concat(".", ["spec.resources.limits", resource]),
		"message": sprintf("there is no limit of %s, which %s requires (setting require.limits); set it, for example to %s", [resource, lib.required_by("limits"), examples[resource]]),
	}
}

violations contains v if {
	not data.database.security.complete
	some resource in missing.requests
	not input.settings.require.limits.value == false
	v := {
		"id": "security.requests-missing",
		"severity": "high",
		"action": "deny",
		"path": concat(".", ["spec.resources.requests", resource]),
		"message": sprintf("there is no request of %s, which %s requires (setting require.limits); set it, for example to %s", [resource, lib.required_by("limits"), examples[resource]]),
	}
}

examples := {"cpu": "500m", "memory": "1Gi"}

# What is so nearly always, found out at once: the Database and all the planned containers lack none.
complete if {
	owners := array.concat([input.object.spec], [container.spec | some container in containers])
	whole := [1 |
		some owner in owners
		owner.resources.limits.cpu
		owner.resources.limits.memory
		owner.resources.requests.cpu
		owner.resources.requests.memory
	]
	count(whole) == count(owners)
}

# Resources that the Database or one of the planned containers lacks, by kind.
missing := {"limits": lacking("limits"), "requests": lacking("requests")}

lacking(kind) := in_spec | in_containers if {
	in_spec := {resource |
		some resource in ["cpu", "memory"]
		not input.object.spec.resources[kind][resource]
	}
	in_containers := {resource |
		some resource in ["cpu", "memory"]
		some container in containers
		not container.spec.resources[kind][resource]
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
