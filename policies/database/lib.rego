# What the packages of this level share: what several rules ask for, and how values stand in messages.
#
# Everything here has a value whatever the input is, because a rule that is undefined by accident is a rule that allows.
# Rules ask for a value by its full path (`data.database.lib.production`): through the import, regorus computes the whole
# package and takes four times as long for each look. Functions are called through the import, which costs nothing.
package database.lib

import rego.v1

# What is not listed is not allowed, so a missing list allows nothing.
default allowed_engines := []

allowed_engines := input.settings.allow.engines.value if is_array(input.settings.allow.engines.value)

default allowed_registries := []

allowed_registries := input.settings.allow.registries.value if is_array(input.settings.allow.registries.value)

# Names of what is required: whatever has an entry other than a plain `false`, since a setting that cannot be read is no
# loophole.
required contains name if {
	is_object(input.settings.require)
	some name, entry in input.settings.require
	not entry.value == false
}

# The strictest environment stands in for one that is not known.
default environment := "production"

environment := input.norm.environment.name if {
	is_string(input.norm.environment.name)
	input.norm.environment.name != ""
}

production if environment == "production"

# A list as it is; anything else as a list of one, so that a rule looks at it too.
listed(value) := value if {
	is_array(value)
} else := [value]

# A value of the user's for a message: quoted, and cut, since a text may be of any length.
quote(value) := concat("", ["\"", value, "\""]) if {
	is_string(value)
	substring(value, 0, 80) == value
} else := concat("", ["\"", substring(value, 0, 80), "...\""]) if {
	is_string(value)
} else := sprintf("%v", [value]) if {
	is_number(value)
} else := sprintf("%v", [value]) if {
	is_boolean(value)
} else := "a value that is not text"

# A quantity of the Database as its user wrote it.
declared(kind, resource) := text if {
	text := quote(input.object.spec.resources[kind][resource])
} else := "of an unknown size"

# A bound for a message, as it stands in the settings where that is known.
bound(entry) := text if {
	text := entry.text
	is_string(text)
} else := sprintf("%v", [entry.value])

# The level that a setting comes from.
level(entry) := concat(" ", ["level", name]) if {
	name := entry.level
	is_string(name)
	name != ""
} else := "a level that the settings do not name"

required_by(name) := from if {
	from := level(input.settings.require[name])
} else := "level global"

# Texts of a list, for a message.
listing(values) := concat(", ", texts) if {
	texts := [text | some text in values; is_string(text)]
	count(texts) > 0
} else := "none"
