"""Operations on rows that torch lacks, or has slower."""
