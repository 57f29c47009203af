package workload

type module struct{ code, name string }

// The order and length of these tables are part of what a seed means.

var modules = []module{
	{"PM", "Patch Management"},
	{"VM", "Vulnerability Management"},
	{"CM", "Configuration Management"},
	{"AM", "Asset Management"},
	{"UM", "User Management"},
	{"PC", "Policy Compliance"},
	{"EDR", "Endpoint Detection and Response"},
	{"FIM", "File Integrity Monitoring"},
	{"WAS", "Web Application Scanning"},
	{"CS", "Container Security"},
	{"CI", "Cloud Inventory"},
	{"TM", "Threat Management"},
	{"RM", "Report Management"},
	{"TAG", "Tag Management"},
	{"SCA", "Security Configuration Assessment"},
	{"CERT", "Certificate View"},
	{"MDM", "Mobile Device Management"},
	{"API", "API Gateway"},
	{"SSO", "Single Sign On"},
	{"BILL", "Billing"},
}

// Modules lists the codes of the modules that emit.
func Modules() []string {
	codes := make([]string, len(modules))
	for i, m := range modules {
		codes[i] = m.code
	}
	return codes
}

// targetsPerModule is how many of the target types a module acts upon.
const targetsPerModule = 4

var (
	applications = []string{"pm", "vm", "portal", "admin", "edr", "fim", "was", "cs", "api", "mobile"}

	actions = []string{
		"Update", "Login", "Add", "View", "Delete", "Export", "Assign", "Enable",
		"Disable", "Deploy", "Scan", "Approve", "Reject", "Download", "Logout",
	}

	targetTypes = []string{
		"User", "Asset", "Job", "Policy", "Tag", "Report", "Dashboard",
		"Connector", "Profile", "License", "Role", "Rule",
	}

	roles = []string{"Manager", "Reader", "Scanner", "Unit Manager", "Auditor", "Administrator"}

	clients = []string{
		"Chrome-Browser", "Firefox-Browser", "Edge-Browser", "Safari-Browser",
		"REST-API", "Mobile-App", "CLI", "Scheduler",
	}

	statuses = []string{
		"Success", "Success", "Success", "Success", "Success", "Success",
		"Success", "Success", "Success", "Failure", "Success", "Success",
		"Success", "Success", "Success", "Partial",
	}

	firstNames = []string{
		"Jack", "John", "Maria", "Wei", "Priya", "Ahmed", "Olga", "Lucas",
		"Emma", "Noah", "Sofia", "Liam", "Mia", "Ravi", "Chen", "Fatima",
		"Ivan", "Anna", "Carlos", "Yuki", "Peter", "Laura", "Omar", "Nina",
		"Tom", "Julia", "Viktor", "Sara", "David", "Amara",
	}

	lastNames = []string{
		"Smith", "Garcia", "Wang", "Patel", "Hassan", "Petrov", "Silva",
		"Muller", "Brown", "Rossi", "Kim", "Nguyen", "Kumar", "Ali", "Sato",
		"Novak", "Dubois", "Jensen", "Costa", "Lopez",
	}

	systems = []string{
		"Windows Server 2022", "Windows 11", "RHEL 9", "Ubuntu 22.04",
		"macOS 14", "SLES 15", "Debian 12", "Oracle Linux 8",
	}

	reasons = []string{
		"requested by the change board",
		"as part of the monthly maintenance window",
		"after the risk score exceeded the threshold",
		"because the owner left the organization",
		"by the automated remediation workflow",
		"following an internal audit finding",
		"to meet the retention policy",
		"on behalf of the service desk",
		"during the onboarding of a new business unit",
		"triggered by the scheduled synchronization",
	}
)

// Tables of the full workload.
var (
	businessUnits = []string{
		"Engineering", "Finance", "Human Resources", "IT Operations", "Legal",
		"Manufacturing", "Marketing", "Research", "Retail", "Sales EMEA",
		"Sales North America", "Security",
	}

	// settings are what configuration edits change, with values as JSON.
	settings = []setting{
		{"severity", []string{`"Low"`, `"Medium"`, `"High"`, `"Critical"`}},
		{"schedule", []string{`"hourly"`, `"daily"`, `"weekly"`, `"monthly"`}},
		{"retentionDays", []string{`30`, `90`, `180`, `365`}},
		{"notify", []string{`true`, `false`}},
		{"owner", []string{`"ops@corp.example"`, `"security@corp.example"`, `"audit@corp.example"`}},
		{"threshold", []string{`0.5`, `0.75`, `0.9`, `0.99`}},
		{"tags", []string{`["prod"]`, `["prod","pci"]`, `["test"]`, `[]`}},
		{"description", []string{`"Standard baseline"`, `"Hardened baseline"`, `"Exception until the next audit"`}},
	}
)

type setting struct {
	name   string
	values []string
}
