// Package faults holds the fault campaign. It has no code of its own: TestCampaign
// runs broker, engine, several replicas of ingest and a producer as they run in
// production, kills, pauses, cuts and refuses them at moments that a seed
// chooses, and compares in the end what was acknowledged with what is stored.
//
//	make faults SEEDS=50           # seeds 1 to 50, and those of the corpus
//	make faults SEEDS=50 FIRST=51  # the next ones
//	make faults SEED=17            # one seed again
//	make faults SEEDS=50 KAFKA=apache
//
// The plan of a seed, what happens when and to whom, is a function of the seed
// alone. What the processes do at that moment is not: a seed that failed may
// have to be run several times to fail again.
package faults
