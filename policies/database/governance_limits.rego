# How much a Database may ask for, and whether what it asks for can be read.
package database.governance

import rego.v1

import data.database.lib

names := {"cpu": "CPU", "memory": "memory", "storage": "storage"}

kinds := {"requests": "request", "limits": "limit"}

ids := {"cpu": "governance.max-cpu", "memory": "governance.max-memory", "storage": "governance.max-storage"}

# Whatever is more than its bound, with both as integers: thousandths of a core, or bytes.
violations contains v if {
	some kind in ["requests", "limits"]
	some resource
	amount := input.norm[kind][resource]
	bound := input.settings.max[resource]
	amount > bound.value
	is_number(amount)
	is_number(bound.value)
	id := ids[resource]
	v := {
		"id": id,
		"severity": "medium",
		"action": "deny",
		"path": concat(".", ["spec.resources", kind, resource]),
		"message": sprintf("the %s %s %s is more than %s, the most that %s allows (setting max.%s); ask for at most that", [names[resource], kinds[kind], lib.declared(kind, resource), lib.bound(bound), lib.level(bound), resource]),
		"measure": amount,
	}
}

# Fields with rules of their own, which say more.
judged_elsewhere := {"spec.version", "spec.backupPolicy.schedule", "spec.backupPolicy.retention"}

violations contains v if {
	unparsable := input.norm.unparsable
	unparsable != []
	some entry in lib.listed(unparsable)
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

quantities := [["requests", "cpu"], ["requests", "memory"], ["requests", "storage"], ["limits", "cpu"], ["limits", "memory"]]

# An amount that stands there, but as no number: no rule above saw it.
violations contains v if {
	some kind in ["requests", "limits"]
	numbers := [name | some name; amount := input.norm[kind][name]; amount > true; amount < ""]
	some resource
	declared := input.object.spec.resources[kind][resource]
	not resource in numbers
	declared != null
	judged := quantities
	[kind, resource] in judged
	path := concat(".", ["spec.resources", kind, resource])
	v := {
		"id": "governance.unreadable",
		"severity": "high",
		"action": "deny",
		"path": path,
		"message": sprintf("%s cannot be read, so no bound can be compared with it%s; write it as its field's description says", [path, as_declared(path)]),
	}
}

# Only quantities are quoted; other fields may hold what is nobody else's business.
as_declared(path) := text if {
	startswith(path, "spec.resources.")
	value := object.get(input.object, split(path, "."), null)
	value != null
	text := sprintf(" (%s)", [lib.quote(value)])
} else := ""
