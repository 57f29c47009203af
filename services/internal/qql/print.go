package qql

func (And) String() string    { panic("not built yet") }
func (Or) String() string     { panic("not built yet") }
func (Not) String() string    { panic("not built yet") }
func (Nested) String() string { panic("not built yet") }
func (Test) String() string   { panic("not built yet") }
