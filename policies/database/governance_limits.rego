# How much a Database may ask for, and whether what it asks for can be read.
package database.governance

import rego.v1

import data.database.lib

names := {"cpu": "CPU", "memory": "memory", "storage": "storage"}

kinds := {"requests": "request", "limits": "limit"}

# Whatever is more than its bound, with both as integers: thousandths of a core, or bytes.
excess contains {"kind": kind, "resource": resource, "amount": amount, "bound": bound} if {
	norm := data.database.lib.norm
	some resource in ["cpu", "memory", "storage"]
	bound := data.database.lib.maximum[resource]
	most := bound.value
	is_number(most)
	some kind in ["requests", "limits"]
	amount := norm[kind][resource]
	is_number(amount)
	amount > most
}

excess_path(over) := concat(".", ["spec.resources", over.kind, over.resource])

excess_message(over) := sprintf("the %s %s %s is more than %s, the most that %s allows (setting max.%s); ask for at most that", [
	names[over.resource],
	kinds[over.kind],
	lib.declared(over.kind, over.resource),
	lib.bound(over.bound),
	lib.level(over.bound),
	over.resource,
])

violations contains v if {
	some over in excess
	over.resource == "cpu"
	v := {
		"id": "governance.max-cpu",
		"severity": "medium",
		"action": "deny",
		"path": excess_path(over),
		"message": excess_message(over),
		"measure": over.amount,
	}
}

violations contains v if {
	some over in excess
	over.resource == "memory"
	v := {
		"id": "governance.max-memory",
		"severity": "medium",
		"action": "deny",
		"path": excess_path(over),
		"message": excess_message(over),
		"measure": over.amount,
	}
}

violations contains v if {
	some over in excess
	over.resource == "storage"
	v := {
		"id": "governance.max-storage",
		"severity": "medium",
		"action": "deny",
		"path": excess_path(over),
		"message": excess_message(over),
		"measure": over.amount,
	}
}

# Fields with rules of their own, which say more.
judged_elsewhere := {"spec.version", "spec.backupPolicy.schedule", "spec.backupPolicy.retention"}

violations contains v if {
	some entry in lib.listed(object.get(data.database.lib.norm, "unparsable", []))
	elsewhere := judged_elsewhere
	not entry in elsewhere
	path := path_of(entry)
	v := {
		"id": "governance.unreadable",
		"severity": "high",
		"action": "deny",
		"path": path,
		"message": sprintf("%s cannot be read, so no bound can be compared with it%s; write it as its field's description says", [path, as_declared(path)]),
	}
}

# Something that is no path is still something that could not be read.
path_of(entry) := entry if {
	is_string(entry)
} else := "spec"

# An amount that stands there, but as no number: no rule above saw it.
violations contains v if {
	some [kind, resource] in quantities
	declared := data.database.lib.spec.resources[kind][resource]
	declared != null
	amount := object.get(data.database.lib.norm, [kind, resource], null)
	not is_number(amount)
	path := concat(".", ["spec.resources", kind, resource])
	v := {
		"id": "governance.unreadable",
		"severity": "high",
		"action": "deny",
		"path": path,
		"message": sprintf("%s cannot be read, so no bound can be compared with it%s; write it as its field's description says", [path, as_declared(path)]),
	}
}

quantities := [["requests", "cpu"], ["requests", "memory"], ["requests", "storage"], ["limits", "cpu"], ["limits", "memory"]]

# Only quantities are quoted; other fields may hold what is nobody else's business.
as_declared(path) := sprintf(" (%s)", [lib.quote(value)]) if {
	startswith(path, "spec.resources.")
	value := object.get(input, array.concat(["object"], split(path, ".")), null)
	value != null
} else := ""
