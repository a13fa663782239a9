"""Operations on rows of tensors that torch does not have, or that are faster here."""
