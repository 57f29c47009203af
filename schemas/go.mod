module github.com/auditrail/auditrail/schemas

go 1.26.0
